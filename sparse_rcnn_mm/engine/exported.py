"""Lets a Runner test an exported file instead of a PyTorch model."""
from __future__ import annotations

from sparse_rcnn_mm.inference.exported import ExportedBackend
from sparse_rcnn_mm.registry import MODELS
from sparse_rcnn_mm.runtime import Engine

from .backend_model import BackendModel


@MODELS.register_module()
class ExportedModel(BackendModel):
    """Detects with ONNX Runtime or OpenVINO instead of PyTorch; for testing only.

    Args:
        path: the exported file.
    """

    def __init__(self, path: str) -> None:
        super().__init__(ExportedBackend(Engine(path)))
