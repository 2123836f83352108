"""Detectors from exported files instead of checkpoints."""
from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sparse_rcnn_mm.checkpoints import Metadata
from sparse_rcnn_mm.runtime import Engine
from sparse_rcnn_mm.runtime.detector import detect
from sparse_rcnn_mm.runtime.engines import PACKAGES

from .backend import Found
from .detector import Detector


class ExportedBackend:
    """Runs the network with ONNX Runtime or OpenVINO."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def __call__(self, inputs: Sequence[dict[str, Any]]) -> list[Found]:
        """Detect objects in a batch."""
        images = [one['inputs'].cpu().numpy() for one in inputs]
        originals = [one['data_samples'].ori_shape[:2] for one in inputs]
        return [Found(*found) for found in detect(self.engine, images, originals)]


def is_exported(path: str | os.PathLike) -> bool:
    """Whether the file name is that of an exported model."""
    return Path(path).suffix in PACKAGES


def exported_detector(path: str | os.PathLike) -> Detector:
    """Build a `Detector` that runs an exported file.

    Raises:
        UserError: the file is missing or broken, or its engine is not installed.
    """
    engine = Engine(path)
    said = engine.metadata
    rule = said['resize']
    pipeline: list[dict[str, Any]] = [
        dict(type='LoadRGBImage'),
        dict(type='ResizeShortSide', short_sides=rule['short_side'], max_long_side=rule['max_long_side']),
        dict(type='PackDetInputs')]
    return Detector(ExportedBackend(engine), pipeline, said['classes'], said['category_ids'], said['palette'])


def exported_metadata(path: str | os.PathLike) -> Metadata:
    """Read the metadata of an exported file in the same form as that of a checkpoint."""
    said = Engine(path).metadata
    return Metadata.of({'meta': {'cfg': said['config'], 'dataset_meta': {
        'classes': said['classes'], 'cat_ids': said['category_ids'], 'palette': said['palette']}}}, path)
