"""Inference: a detector out of a checkpoint, and folders and videos through it."""
from .detector import Detections, Detector, read_image

__all__ = ['Detections', 'Detector', 'read_image']
