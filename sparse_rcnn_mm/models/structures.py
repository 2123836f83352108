"""What the parts of the model hand to each other. The tensor legend is in `sparse_rcnn_mm.models`."""
from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Proposals(NamedTuple):
    """Where the stages start. A kind that hands on more is a NamedTuple with these fields and others."""
    boxes: Tensor  # (B, N, 4)
    queries: Tensor  # (B, N, C)


class StageOutput(NamedTuple):
    """What one stage made of what came before; `boxes` are decoded. A kind that hands on more has further fields.

    With G groups of queries for every image there are G * B rows; row r belongs to image r % B.
    """
    logits: Tensor  # (B, N, K)
    boxes: Tensor  # (B, N, 4)
    queries: Tensor  # (B, N, C)


class GroundTruth(NamedTuple):
    """The ground truths of a batch in one flat list of T, ordered by image."""
    boxes: Tensor  # (T, 4), in the frame of the predicted boxes
    labels: Tensor  # (T,) long
    image: Tensor  # (T,) long, the image of the batch that each belongs to
    counts: list[int]  # ground truths of each image, on the host
    img_whwh: Tensor  # (B, 1, 4)


class Detections(NamedTuple):
    """The k detections of each image, best first."""
    scores: Tensor  # (B, k)
    labels: Tensor  # (B, k) long
    boxes: Tensor  # (B, k, 4)
    proposals: Tensor  # (B, k) long, the proposal that each was
