"""Decodes the outputs of convolutions to scores and boxes."""
from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from sparse_rcnn_mm.ops import at_least_float32


def geometric_mean(a: Tensor, b: Tensor) -> Tensor:
    """sqrt(sigmoid(a) * sigmoid(b)), with a finite gradient even if it underflows."""
    return ((F.logsigmoid(at_least_float32(a)) + F.logsigmoid(at_least_float32(b))) / 2).exp()


def boxes_around(distances: Tensor, stride: int) -> Tensor:
    """Distances (B, 4, H, W) to left, top, right and bottom, from the centers of cells, to boxes of that shape."""
    y, x = ((torch.arange(size, device=distances.device, dtype=distances.dtype) + 0.5) * stride
            for size in distances.shape[2:])
    left, top, right, bottom = distances.unbind(1)
    return torch.stack([x - left, y[:, None] - top, x + right, y[:, None] + bottom], dim=1)
