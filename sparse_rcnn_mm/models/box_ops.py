"""Operations on boxes. The last dimension is the box; all others broadcast."""
from __future__ import annotations

import math

import torch
from torch import Tensor

from sparse_rcnn_mm.ops import at_least_float32

# The largest factor by which a box grows in one stage: from 16 pixels, a small box, to 100,000 (detectron2).
MAX_LOG_SCALE = math.log(100_000 / 16)
MAX_COORDINATE = 1e8  # pixels; the areas of larger boxes would overflow


def cxcywh_to_xyxy(boxes: Tensor) -> Tensor:
    """(..., 4) center and size to (..., 4) corners, in the same units."""
    center, size = boxes.split(2, dim=-1)
    return torch.cat([center - 0.5 * size, center + 0.5 * size], dim=-1)


def decode_boxes(boxes: Tensor, deltas: Tensor, weights: tuple[float, float, float, float]) -> Tensor:
    """Move and scale boxes (..., 4) by deltas (..., 4), which are divided by `weights` first.

    The size is clamped only from above, as in `Box2BoxTransform.apply_deltas` of detectron2. At least float32.
    """
    boxes, deltas = at_least_float32(boxes), at_least_float32(deltas)
    # Python numbers, because a tensor would have to be copied to the device.
    deltas = torch.stack([delta / weight for delta, weight in zip(deltas.unbind(-1), weights, strict=True)], dim=-1)
    shift, log_scale = deltas.split(2, dim=-1)
    size = boxes[..., 2:] - boxes[..., :2]
    center = boxes[..., :2] + 0.5 * size
    decoded = torch.cat([center + shift * size, size * log_scale.clamp(max=MAX_LOG_SCALE).exp()], dim=-1)
    return cxcywh_to_xyxy(decoded).clamp(-MAX_COORDINATE, MAX_COORDINATE)


def _area(boxes: Tensor) -> Tensor:
    size = (boxes[..., 2:] - boxes[..., :2]).clamp(min=0)
    return size[..., 0] * size[..., 1]


def _ratio(part: Tensor, whole: Tensor) -> Tensor:
    """part / whole, or 0 for two boxes without area, where the quotient and its gradient would be NaN."""
    return part / whole.masked_fill(whole == 0, 1)


def overlaps(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """IoU and generalized IoU (arXiv 1902.09630) of xyxy boxes (..., 4) that broadcast, each (...).

    There is no epsilon, so for valid boxes the values are the official ones. Boxes of negative size count as empty.
    """
    inter = _area(torch.cat([torch.maximum(a[..., :2], b[..., :2]), torch.minimum(a[..., 2:], b[..., 2:])], dim=-1))
    hull = _area(torch.cat([torch.minimum(a[..., :2], b[..., :2]), torch.maximum(a[..., 2:], b[..., 2:])], dim=-1))
    union = _area(a) + _area(b) - inter
    iou = _ratio(inter, union)
    return iou, iou - _ratio(hull - union, hull)
