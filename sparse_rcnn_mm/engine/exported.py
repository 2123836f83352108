"""Lets a Runner test an exported file instead of a PyTorch model."""
from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from sparse_rcnn_mm.checkpoints import Metadata
from sparse_rcnn_mm.inference.backend import Found
from sparse_rcnn_mm.registry import MODELS
from sparse_rcnn_mm.runtime import Engine
from sparse_rcnn_mm.runtime.detector import detect

from .backend_model import BackendModel


class ExportedBackend:
    """Runs the network with another engine than PyTorch."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def __call__(self, inputs: Sequence[dict[str, Any]]) -> list[Found]:
        """Detect objects in a batch."""
        images = [one['inputs'].cpu().numpy() for one in inputs]
        originals = [one['data_samples'].ori_shape[:2] for one in inputs]
        return [Found(*found) for found in detect(self.engine, images, originals)]


@MODELS.register_module()
class ExportedModel(BackendModel):
    """Detects with another engine than PyTorch; for testing only.

    Args:
        path: the exported file.
    """

    def __init__(self, path: str) -> None:
        super().__init__(ExportedBackend(Engine(path)))


def exported_metadata(path: str | os.PathLike) -> Metadata:
    """Read the metadata of an exported file in the same form as that of a checkpoint."""
    said = Engine(path).metadata
    return Metadata.of({'meta': {'cfg': said['config'], 'dataset_meta': {
        'classes': said['classes'], 'cat_ids': said['category_ids'], 'palette': said['palette']}}}, path)
