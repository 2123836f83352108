"""Pastes the masks of boxes into bitmaps of the image."""
from __future__ import annotations

import torch
from torch import Tensor

THRESHOLD = 0.5  # pixels with at least this probability belong to the object


@torch.no_grad()
def paste_masks(masks: Tensor, boxes: Tensor, height: int, width: int) -> Tensor:
    """Paste probabilities (n, h, w) into boxes (n, 4). Returns bitmaps (n, height, width) bool, on the host.

    The mask is interpolated bilinearly at each pixel's center, and is 0 outside the box, as in mmdet and detectron2.
    A bilinear weight is the product of a row factor and a column factor, so each mask needs two matrix products.
    """
    masks, boxes = masks.cpu(), boxes.to(masks.dtype).cpu()
    bitmaps = torch.zeros(len(masks), height, width, dtype=torch.bool)
    limits = boxes.new_tensor([width, height])
    starts = (boxes[:, :2].floor() - 1).clamp(min=0).minimum(limits).long().tolist()
    ends = (boxes[:, 2:].ceil() + 1).clamp(min=0).minimum(limits).long().tolist()
    for bitmap, mask, box, (left, top), (right, bottom) in zip(bitmaps, masks, boxes, starts, ends, strict=True):
        rows = _bilinear(box[1], box[3], top, bottom, mask.shape[0])
        columns = _bilinear(box[0], box[2], left, right, mask.shape[1])
        bitmap[top:bottom, left:right] = rows @ mask @ columns.T >= THRESHOLD
    return bitmaps


def _bilinear(start: Tensor, end: Tensor, first: int, last: int, cells: int) -> Tensor:
    """Weight of each cell in the pixels `first` to `last`: (last - first, cells). The cells fill the box."""
    pixels = torch.arange(first, last, dtype=start.dtype) + 0.5
    position = (pixels - start) / (end - start) * cells - 0.5
    return (1 - (position[:, None] - torch.arange(cells, dtype=start.dtype)).abs()).clamp(min=0)
