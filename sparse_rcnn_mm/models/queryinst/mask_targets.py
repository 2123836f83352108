"""Mask targets: the ground-truth bitmap, cropped to a box and resized to the size of the prediction.

The result equals mmdet's `BitmapMasks.crop_and_resize`, which uses a compiled RoIAlign. RoIAlign is a weighted mean of
pixels, and each weight is the product of a row factor and a column factor, so each box needs two matrix products.
"""
from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from sparse_rcnn_mm.ops import at_least_float32

from .structures import MaskedGroundTruth


@torch.no_grad()
def mask_targets(boxes: Tensor, images: Tensor, which: Tensor, size: int, gt: MaskedGroundTruth) -> Tensor:
    """Compute the target masks (M, size, size) on the host. A bin is 1 if it is at least half covered, else 0.

    Args:
        boxes: (M, 4), in pixels of the resized image.
        images, which: (M,) long, the image of each box, and the index of the ground truth in that image.
    """
    boxes, images, which = at_least_float32(boxes).cpu(), images.cpu(), which.cpu()
    masks = boxes.new_empty(len(boxes), size, size)
    for image, bitmaps in enumerate(gt.bitmaps):
        mine = images == image
        masks[mine] = crop_and_resize(bitmaps, boxes[mine], which[mine], size, gt.padded)
    return (masks >= 0.5).to(boxes.dtype)


def crop_and_resize(bitmaps: np.ndarray, boxes: Tensor, which: Tensor, size: int, padded: tuple[int, int]) -> Tensor:
    """Compute the covered fraction of each bin, from 0 to 1: (M, size, size).

    Args:
        bitmaps: (G, H, W) uint8 of 0 and 1.
        boxes: (M, 4), on the host; they are clipped to `padded`.
        which: (M,) long, the index of each box's bitmap.
        padded: height and width of the padded image, which is zero below and to the right of the bitmaps.
    """
    height, width = padded
    limits = boxes.new_tensor([width, height, width, height])
    boxes = torch.minimum(boxes.clamp(min=0), limits)
    # Not dividing by the number of samples keeps sums of halves and quarters exact, and so the test for half covered.
    rows, row_samples = axis_weights(boxes[:, 1], boxes[:, 3], size, height, bitmaps.shape[1])
    columns, column_samples = axis_weights(boxes[:, 0], boxes[:, 2], size, width, bitmaps.shape[2])
    x0, y0 = (boxes[:, :2] - 1).floor().long().clamp(min=0).unbind(-1)
    x1, y1 = (boxes[:, 2:] + 2).ceil().long().unbind(-1)
    masks = boxes.new_empty(len(boxes), size, size)
    for i, (g, left, top, right, bottom) in enumerate(zip(*(x.tolist() for x in (which, x0, y0, x1, y1)), strict=True)):
        crop = torch.from_numpy(bitmaps[g, top:bottom, left:right]).to(boxes.dtype)
        masks[i] = rows[i, :, top:bottom] @ crop @ columns[i, :, left:right].T
    return masks / (row_samples * column_samples).clamp(min=1)[:, None, None]


def axis_weights(start: Tensor, end: Tensor, bins: int, size: int, cells: int) -> tuple[Tensor, Tensor]:
    """Weight of each cell in each bin along one axis, for an aligned RoIAlign with as many samples as a bin has cells.

    Args:
        start, end: (M,) start and end of each box, in cells.
        size: number of cells of the axis. Only the first `cells` get weights; the others are zero.

    Returns:
        Weights (M, bins, cells), and the number of samples (M,) to divide them by.
    """
    width = ((end - start) / bins)[:, None, None]
    samples = width.ceil()
    step = torch.arange(max(int(samples.max()), 1) if len(samples) else 1)
    within = (step + 0.5) * width / samples.clamp(min=1)
    position = start[:, None, None] - 0.5 + torch.arange(bins)[:, None] * width + within
    counts = (step < samples) & (position >= -1) & (position <= size)
    position = position.clamp(0, size - 1)
    low = position.floor()
    fraction = position - low
    index = torch.stack([low, (low + 1).clamp(max=size - 1)], -1).long()
    weight = torch.stack([1 - fraction, fraction], -1) * (counts[..., None] & (index < cells))
    weights = start.new_zeros(len(start), bins, cells)
    return weights.scatter_add_(2, index.clamp(max=cells - 1).flatten(2), weight.flatten(2)), samples.flatten()
