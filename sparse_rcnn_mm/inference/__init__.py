"""Inference: a detector out of a checkpoint, and folders and videos through it."""
from .detector import Detector, ImageDetections
from .exported import exported_detector, exported_metadata, is_exported
from .tta import TTA

__all__ = ['TTA', 'Detector', 'ImageDetections', 'exported_detector', 'exported_metadata', 'is_exported']
