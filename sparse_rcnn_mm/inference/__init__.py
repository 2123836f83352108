"""Inference: a detector from a checkpoint or an exported file, run on images, folders and videos.

Exported files need no PyTorch. Modules that need it are imported on first use.
"""
from typing import TYPE_CHECKING

from sparse_rcnn_mm.lazy import lazy

from .detections import ImageDetections
from .exported import ExportedDetector, is_exported

if TYPE_CHECKING:
    from .detector import Detector
    from .tta import TTA

__all__ = ['TTA', 'Detector', 'ExportedDetector', 'ImageDetections', 'is_exported']
__getattr__ = lazy(__name__, {'Detector': 'detector', 'TTA': 'tta'})
