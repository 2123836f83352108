"""Which sizes an exported graph leaves open, and what it returns."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sparse_rcnn_mm.errors import UserError


@dataclass(frozen=True)
class Tracing:
    """Settings for tracing a network.

    Attributes:
        size: the height and width of all batches; None leaves them open.
        batch: the number of images in all batches; None leaves it open.
        stages: whether to return the boxes of the detections after every stage, too, but no masks.
    """
    size: Sequence[int] | None = None
    batch: int | None = None
    stages: bool = False

    def __post_init__(self) -> None:
        if self.size is not None and min(self.size) < 32:
            raise UserError(f'a static size of {self.size[0]} x {self.size[1]} is too small: both must be at least 32')
        if self.batch is not None and self.batch < 1:
            raise UserError(f'a batch of {self.batch} images is too small: it must be at least 1')

    def example(self) -> tuple[Tensor, Tensor]:
        """Return example inputs for tracing."""
        batch = self.batch or 2  # a size of 1 would become a constant
        # At no stride from 4 to 32 does this divide into windows of 7, or into one, which tracing would make constant.
        height, width = self.size or (480, 864)
        sizes = torch.tensor([[height, width - 8], [height - 6, width]]).repeat(batch, 1)[:batch]
        return torch.zeros(batch, 3, height, width, dtype=torch.uint8), sizes

    def open_sizes(self) -> dict[str, dict[int, str]] | None:
        """Return the names of the open axes of the inputs, or None if there are none."""
        batch = {} if self.batch else {0: 'batch'}
        images = {**batch, **({} if self.size else {2: 'height', 3: 'width'})}
        return {'images': images, 'sizes': batch} if images else None

    def described(self, metadata: dict[str, Any]) -> dict[str, Any]:
        """Return the metadata, extended by these settings."""
        fixed = {'within': list(self.size)} if self.size else {}
        return {**metadata, 'resize': {**metadata['resize'], **fixed}, 'batch': self.batch}
