"""Detection with exported files. Needs NumPy, Pillow and ONNX Runtime or OpenVINO, but no PyTorch or MMDetection."""
from .detector import Detections, RuntimeDetector
from .engines import Engine

__all__ = ['Detections', 'Engine', 'RuntimeDetector']
