"""Detect with an exported file: numpy, Pillow and ONNX Runtime or OpenVINO; neither PyTorch nor MMDetection."""
from .detector import Detections, RuntimeDetector
from .engines import Engine

__all__ = ['Detections', 'Engine', 'RuntimeDetector']
