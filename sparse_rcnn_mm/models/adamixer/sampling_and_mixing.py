"""Samples the pyramid at points that a query predicts, and mixes the sampled features."""
from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from sparse_rcnn_mm.ops import at_least_float32

from .adaptive_mixing import AdaptiveMixing
from .point_sampler import PointPyramid
from .xyzr import size_of


class SamplingAndMixing(nn.Module):
    """Samples features at points that the query predicts relative to its box, mixes them, adds them and normalizes.

    Args:
        in_channels: C.
        groups: G, groups of channels.
        in_points, out_points: points per group, before and after mixing.
    """

    def __init__(self, in_channels: int, groups: int, in_points: int, out_points: int) -> None:
        super().__init__()
        self.groups = groups
        # Sequential only because of the names in official checkpoints.
        self.sampling_offset_generator = nn.Sequential(nn.Linear(in_channels, groups * in_points * 3))
        self.adaptive_mixing = AdaptiveMixing(in_channels=in_channels, groups=groups, in_points=in_points,
                                              out_points=out_points)
        self.norm = nn.LayerNorm(in_channels)

    def reset_parameters(self) -> None:
        """Initialize points spread over the box, one octave finer: a grid if their number is a square, else random."""
        weight, bias = self.sampling_offset_generator.parameters()
        nn.init.zeros_(weight)
        points = bias.detach().view(self.groups, -1, 3)
        side = math.isqrt(points.shape[1])
        if side**2 == points.shape[1]:
            line = (torch.arange(side) + 0.5) / side - 0.5
            points[..., :2] = torch.cartesian_prod(line, line).flip(-1)
        else:
            nn.init.uniform_(points[..., :2], -0.5, 0.5)
        nn.init.constant_(points[..., 2], -1)
        self.adaptive_mixing.reset_parameters()

    def forward(self, pyramid: PointPyramid, queries: Tensor, points: Tensor) -> Tensor:
        """Queries (B, N, C) and the points (B, N, G, P, 3) that each samples to (B, N, C)."""
        mixed = self.adaptive_mixing(queries.flatten(0, 1), pyramid.sample(points))
        return self.norm(mixed.view_as(queries))

    def points(self, queries: Tensor, xyzr: Tensor) -> Tensor:
        """The points (B, N, G, P, 3) of queries (B, N, C), predicted relative to center, size and scale of the box."""
        offset = at_least_float32(self.sampling_offset_generator(queries)).unflatten(-1, (self.groups, -1, 3))
        state = xyzr[:, :, None, None]
        return torch.cat([state[..., :2] + offset[..., :2] * size_of(state), state[..., 2:3] + offset[..., 2:]], dim=-1)
