"""Data passed between the parts, in addition to that of the plain model."""
from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from torch import Tensor


class MaskedStageOutput(NamedTuple):
    """The output of one stage."""
    logits: Tensor  # (B, N, K)
    boxes: Tensor  # (B, N, 4)
    queries: Tensor  # (B, N, C)
    # Called with rows (M,) long of the B * N proposals and the class (M,) long of each; returns logits (M, 2P, 2P).
    # Masks cost more than the rest of a stage, so only requested ones are computed.
    masks: Callable[[Tensor, Tensor], Tensor]


class MaskedGroundTruth(NamedTuple):
    """All T ground truths of a batch in one flat list, ordered by image."""
    boxes: Tensor  # (T, 4)
    labels: Tensor  # (T,) long
    image: Tensor  # (T,) long
    counts: list[int]
    img_whwh: Tensor  # (B, 1, 4)
    bitmaps: list[np.ndarray]  # (count, H, W) uint8 for each image, on the host, in pixels of the resized image
    padded: tuple[int, int]  # height and width of the batch


class MaskedDetections(NamedTuple):
    """The k detections of each image, best first."""
    scores: Tensor  # (B, k)
    labels: Tensor  # (B, k) long
    boxes: Tensor  # (B, k, 4)
    proposals: Tensor  # (B, k) long
    masks: Tensor  # (B, k, 2P, 2P), probabilities
    mask_boxes: Tensor  # (B, k, 4), the extent of the masks: the boxes of the stage, never clipped or scaled
