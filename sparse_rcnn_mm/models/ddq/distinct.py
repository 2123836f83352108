"""Class-agnostic non-maximum suppression in tensors."""
from __future__ import annotations

import torch
from torch import Tensor

ROWS = 256  # rows of the IoU matrix that are computed at once, so that they fit in the cache


@torch.no_grad()
def distinct(boxes: Tensor, threshold: float) -> Tensor:
    """Non-maximum suppression of boxes (M, 4), best first. Returns (M,) bool: whether a box is kept.

    Suppression by the kept boxes is repeated until nothing changes. Every round settles at least one more box; in
    practice it takes about five rounds for any number of boxes. The result equals that of the usual sequential loop.
    """
    suppresses = overlapping(boxes, threshold)
    kept = boxes.new_ones(len(boxes), dtype=torch.bool)
    while True:
        before, kept = kept, ~(suppresses & kept[:, None]).any(0)
        if torch.equal(before, kept):
            return kept


def overlapping(boxes: Tensor, threshold: float) -> Tensor:
    """(M, M) bool: whether a box (row) comes before another (column) and their IoU is above the threshold."""
    result = boxes.new_zeros(len(boxes), len(boxes), dtype=torch.bool)
    x1, y1, x2, y2 = boxes.unbind(-1)
    area = (x2 - x1) * (y2 - y1)
    for start in range(0, len(boxes), ROWS):
        some, later = slice(start, start + ROWS), slice(start, None)
        width = torch.minimum(x2[some, None], x2[later]) - torch.maximum(x1[some, None], x1[later])
        height = torch.minimum(y2[some, None], y2[later]) - torch.maximum(y1[some, None], y1[later])
        inter = width.clamp_(min=0) * height.clamp_(min=0)
        # Without a division, which would give NaN for two boxes without area.
        result[some, later] = inter > threshold * (area[some, None] + area[later] - inter)
    return result.triu_(1)
