"""Adaptive mixing (section 3.4 of the paper)."""
from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from sparse_rcnn_mm.ops.wide_linear import wide_linear
from sparse_rcnn_mm.registry import MODELS


@MODELS.register_module()
class AdaptiveMixing(nn.Module):
    """Mixes the sampled features of each query along channels and then along points, with matrices made from the query.

    Args:
        in_channels: C.
        groups: G, groups of channels.
        in_points: P, points per group.
        out_points: points per group after mixing.
    """

    def __init__(self, *, in_channels: int = 256, groups: int = 4, in_points: int = 32, out_points: int = 128) -> None:
        super().__init__()
        self.groups = groups
        width = in_channels // groups
        self.channel_shape, self.point_shape = (width, width), (out_points, in_points)
        # Sequential only because of the names in official checkpoints.
        self.parameter_generator = nn.Sequential(
            nn.Linear(in_channels, groups * (width * width + out_points * in_points)))
        self.out_proj = nn.Linear(groups * out_points * width, in_channels)

    def reset_parameters(self) -> None:
        """Initialize so that at first the matrices are the same for all queries."""
        weight, _ = self.parameter_generator.parameters()
        nn.init.zeros_(weight)

    def forward(self, queries: Tensor, sampled: Tensor) -> Tensor:
        """Queries (M, C) and sampled features (M, G, P, C/G) to (M, C), the query added."""
        made = wide_linear(queries, *self.parameter_generator.parameters()).unflatten(-1, (self.groups, -1))
        channel_matrix = made[..., :self.channel_shape[0] ** 2].unflatten(-1, self.channel_shape)
        point_matrix = made[..., self.channel_shape[0] ** 2:].unflatten(-1, self.point_shape)
        mixed = point_matrix @ _norm(sampled @ channel_matrix)
        return queries + self.out_proj(_norm(mixed).flatten(1))


def _norm(x: Tensor) -> Tensor:
    """Layer norm over points and channels together, then ReLU."""
    return F.layer_norm(x, x.shape[-2:]).relu()
