"""The tuples that the parts of the model exchange. The tensor legend is in `sparse_rcnn_mm.models`."""
from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Proposals(NamedTuple):
    """The input of the first stage. To pass on more, use a NamedTuple with these and further fields."""
    boxes: Tensor  # (B, N, 4)
    queries: Tensor  # (B, N, C)


class StageOutput(NamedTuple):
    """The output of a stage; `boxes` are decoded. To pass on more, use a NamedTuple with these and further fields.

    With G groups of queries for every image there are G * B rows; row r belongs to image r % B.
    """
    logits: Tensor  # (B, N, K)
    boxes: Tensor  # (B, N, 4)
    queries: Tensor  # (B, N, C)


class GroundTruth(NamedTuple):
    """The ground truths of a batch in one flat list of T, ordered by image."""
    boxes: Tensor  # (T, 4), in the frame of the predicted boxes
    labels: Tensor  # (T,) long
    image: Tensor  # (T,) long, index of the image in the batch
    counts: list[int]  # the number of ground truths of each image, on the host
    img_whwh: Tensor  # (B, 1, 4)


class Detections(NamedTuple):
    """The k detections of each image, best first."""
    scores: Tensor  # (B, k)
    labels: Tensor  # (B, k) long
    boxes: Tensor  # (B, k, 4)
    proposals: Tensor  # (B, k) long, index of the proposal that became the detection
