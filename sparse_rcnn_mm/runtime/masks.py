"""Pastes the masks of boxes into bitmaps of the image."""
from __future__ import annotations

import numpy as np

THRESHOLD = 0.5  # pixels with at least this probability belong to the object


def paste_masks(masks: np.ndarray, boxes: np.ndarray, height: int, width: int) -> np.ndarray:
    """Paste probabilities (n, h, w) into boxes (n, 4). Returns bitmaps (n, height, width) bool.

    The mask is interpolated bilinearly at each pixel's center, and is 0 outside the box, as in mmdet and detectron2.
    A bilinear weight is the product of a row factor and a column factor, so each mask needs two matrix products.
    """
    boxes = boxes.astype(masks.dtype)
    bitmaps = np.zeros((len(masks), height, width), bool)
    limits = np.array([width, height])
    starts = (np.floor(boxes[:, :2]) - 1).clip(0, limits).astype(int).tolist()
    ends = (np.ceil(boxes[:, 2:]) + 1).clip(0, limits).astype(int).tolist()
    for bitmap, mask, box, (left, top), (right, bottom) in zip(bitmaps, masks, boxes, starts, ends, strict=True):
        rows = _bilinear(box[1], box[3], top, bottom, mask.shape[0])
        columns = _bilinear(box[0], box[2], left, right, mask.shape[1])
        bitmap[top:bottom, left:right] = rows @ mask @ columns.T >= THRESHOLD
    return bitmaps


def _bilinear(start: np.floating, end: np.floating, first: int, last: int, cells: int) -> np.ndarray:
    """Weight of each cell in the pixels `first` to `last`: (last - first, cells). The cells fill the box."""
    pixels = np.arange(first, last, dtype=start.dtype) + start.dtype.type(0.5)
    with np.errstate(divide='ignore', invalid='ignore'):  # of an empty box, no pixel is inside
        position = (pixels - start) / (end - start) * cells - start.dtype.type(0.5)
        return np.nan_to_num(1 - np.abs(position[:, None] - np.arange(cells, dtype=start.dtype))).clip(0)
