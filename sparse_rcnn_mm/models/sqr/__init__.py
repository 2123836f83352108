"""SQR: Enhanced Training of Query-Based Object Detection via Selective Query Recollection (arXiv 2212.07593)."""
from .recollecting_roi_head import RecollectingRoIHead

__all__ = ['RecollectingRoIHead']
