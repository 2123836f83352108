"""Detectors from exported files instead of checkpoints. Works without PyTorch."""
from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sparse_rcnn_mm.errors import UserError
from sparse_rcnn_mm.runtime import Engine
from sparse_rcnn_mm.runtime.detector import detect
from sparse_rcnn_mm.runtime.engines import PACKAGES
from sparse_rcnn_mm.runtime.preprocessing import resize, resized_shape

from .detections import ImageDetections, ImageDetector


def is_exported(path: str | os.PathLike) -> bool:
    """Whether the file name has the suffix of an exported model."""
    return Path(path).suffix in PACKAGES


def check_not_exported(path: str, tta: object) -> None:
    """Raise `UserError` for test-time augmentation of an exported file."""
    if tta:
        raise UserError(f'{path} is an exported file, which clips boxes to the image, and voting needs them unclipped: '
                        'use test-time augmentation (--tta) with the checkpoint')


class ExportedDetector(ImageDetector):
    """A detector that runs an exported file.

    Args:
        path: the file.

    Raises:
        UserError: the file is missing or broken, or its engine is not installed.
    """

    def __init__(self, path: str | os.PathLike) -> None:
        self.engine = Engine(path)
        said = self.engine.metadata
        super().__init__(said['classes'], said['category_ids'], said['palette'])

    def prepare(self, image: np.ndarray) -> dict[str, Any]:
        """Resize an image by the rule in the file."""
        size = image.shape[:2]
        resized = resize(image, *resized_shape(*size, **self.engine.metadata['resize']))
        return {'image': resized.transpose(2, 0, 1), 'original': size}

    def detect(self, inputs: Sequence[dict[str, Any]]) -> list[ImageDetections]:
        """Run the file on a batch of results of `prepare`."""
        found = detect(self.engine, [one['image'] for one in inputs], [one['original'] for one in inputs])
        return [self.named(*one) for one in found]
