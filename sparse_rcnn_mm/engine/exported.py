"""An exported file in the place of the model that a Runner tests."""
from __future__ import annotations

from sparse_rcnn_mm.inference.exported import ExportedBackend
from sparse_rcnn_mm.registry import MODELS
from sparse_rcnn_mm.runtime import Engine

from .backend_model import BackendModel


@MODELS.register_module()
class ExportedModel(BackendModel):
    """Detects by another engine than PyTorch.

    Args:
        path: the exported file.
    """

    def __init__(self, path: str) -> None:
        super().__init__(ExportedBackend(Engine(path)))
