"""SQR: Enhanced Training of Query-Based Object Detection via Selective Query Recollection (arXiv 2212.07593)."""
from .recollecting_masked_roi_head import RecollectingMaskedRoIHead
from .recollecting_roi_head import RecollectingRoIHead

__all__ = ['RecollectingMaskedRoIHead', 'RecollectingRoIHead']
