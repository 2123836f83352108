"""The tuples that the proposal head returns."""
from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class DensePredictions(NamedTuple):
    """The candidates of each image, for the criterion. Gradients flow through scores and boxes."""
    ids: Tensor  # (B, M) long, positions of all levels, row by row, finest level first
    scores: Tensor  # (B, M, K)
    boxes: Tensor  # (B, M, 4)
    kept: Tensor  # (B, M) bool


class DistinctProposals(NamedTuple):
    """The best distinct candidates as proposals. Images with fewer than others have rows of zeros at the end."""
    boxes: Tensor  # (B, N, 4)
    queries: Tensor  # (B, N, C)
    main: DensePredictions  # by score; `kept` are the distinct ones
    auxiliary: DensePredictions | None  # from the layers that exist only for training; level by level
