"""Inference: a detector from a checkpoint, run on images, folders and videos."""
from .detector import Detector, ImageDetections
from .exported import exported_detector, exported_metadata, is_exported
from .tta import TTA

__all__ = ['TTA', 'Detector', 'ImageDetections', 'exported_detector', 'exported_metadata', 'is_exported']
