"""Inference: a detector out of a checkpoint, and folders and videos through it."""
from .detector import Detector, ImageDetections

__all__ = ['Detector', 'ImageDetections']
