"""A detector that runs an exported file."""
from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from .engines import Engine
from .masks import paste_masks
from .preprocessing import read_rgb, resize, resized_shape


class Detections(NamedTuple):
    """The n detections of one image, best first, in pixels of the original image."""
    boxes: np.ndarray  # (n, 4) float32, x1, y1, x2, y2
    scores: np.ndarray  # (n,) float32
    labels: np.ndarray  # (n,) int64
    masks: np.ndarray | None = None  # (n, height, width) bool, from models that predict masks


class RuntimeDetector:
    """Detects objects in images. The results equal those of `sparse_rcnn_mm.inference.Detector` with the checkpoint.

    Args:
        path, threads: arguments of `Engine`.
    """

    def __init__(self, path: str | os.PathLike, threads: int | None = None) -> None:
        self.engine = Engine(path, threads)
        self.classes = tuple(self.engine.metadata['classes'])

    def __call__(self, *images: Any) -> list[Detections]:
        """Detect objects in images (files, Pillow images or arrays (H, W, 3) uint8 RGB), which form one batch."""
        pixels = [read_rgb(image) for image in images]
        originals = [image.shape[:2] for image in pixels]
        resized = [resize(image, *resized_shape(*size, **self.engine.metadata['resize']))
                   for image, size in zip(pixels, originals, strict=True)]
        return detect(self.engine, [image.transpose(2, 0, 1) for image in resized], originals)


def detect(engine: Engine, images: Sequence[np.ndarray], originals: Sequence[tuple[int, int]]) -> list[Detections]:
    """Run a batch of resized images (3, h, w) uint8. `originals` are their original sizes (height, width)."""
    sizes = np.array([image.shape[1:] for image in images], np.int64)
    batch = np.zeros((len(images), 3, *sizes.max(axis=0)), np.uint8)
    for canvas, image in zip(batch, images, strict=True):
        canvas[:, :image.shape[1], :image.shape[2]] = image
    found = []
    for one, size, original in zip(zip(*engine(batch, sizes), strict=True), sizes, originals, strict=True):
        found.append(in_original(one, tuple(size), original))
    return found


def in_original(arrays: Sequence[np.ndarray], size: Sequence[int], original: Sequence[int]) -> Detections:
    """Return the detections of one image in pixels of the original image, without the empty ones.

    Args:
        arrays: boxes, scores, labels and, from models with masks, the masks and their boxes.
        size, original: height and width of the resized and of the original image.
    """
    boxes, scores, labels, *masked = arrays
    whwh = np.array([*original[::-1]] * 2, np.float32)
    factor = whwh / np.array([*size[::-1]] * 2, np.float32)
    boxes = (boxes * factor).clip(0, whwh)
    solid = (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
    masks = paste_masks(masked[0][solid], masked[1][solid] * factor, *original) if masked else None
    return Detections(boxes[solid], scores[solid], labels[solid], masks)
