"""Inference: a detector out of a checkpoint, and folders and videos through it."""
from .checkpoint_config import config_of
from .detector import Detections, Detector, read_image

__all__ = ['Detections', 'Detector', 'config_of', 'read_image']
