"""Features at points of the image and of scale (3D sampling, section 3.3 of the paper), as one weighted gather.

A sample is linear in the features: a bilinear sample of every level (4 rows), weighted by how well the level fits the
point's scale. With the pyramid flattened to rows, this is a weighted sum of 4 L rows.
"""
from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sparse_rcnn_mm.errors import UserError
from sparse_rcnn_mm.ops.weighted_rows import WeightedRows
from sparse_rcnn_mm.registry import MODELS


class PointPyramid:
    """The feature maps of a batch, flattened once for all stages.

    Attributes:
        feats: L levels of (B, C, H_l, W_l), finest first.
        strides: pixels of the image per cell of each level.
        batch: B.
    """

    def __init__(self, feats: Sequence[Tensor], strides: Sequence[int], groups: int) -> None:
        self.feats, self.strides, self.groups = feats, strides, groups
        self.batch = feats[0].shape[0]
        starts = [0, *itertools.accumulate(feat.shape[2] * feat.shape[3] for feat in feats)]
        self.rows_per_image = starts[-1]
        rows = torch.cat([feat.flatten(2).transpose(1, 2) for feat in feats], dim=1)
        # Each row of C channels is G rows of C / G.
        self.rows = WeightedRows(rows.reshape(-1, rows.shape[2] // groups))
        # An asynchronous copy, so that a GPU keeps computing the features.
        self.level_size, self.level_start, self.level_stride = (
            table.to(rows.device, non_blocking=True) for table in (
                torch.tensor([feat.shape[:1:-1] for feat in feats]), torch.tensor(starts[:-1]),
                torch.tensor(strides)))

    def sample(self, points: Tensor) -> Tensor:
        """Points (R, N, G, P, 3) to features (R*N, G, P, C/G), where row r of R belongs to image r % B.

        Outside the maps the features are 0. The gradient reaches the features and the points.
        """
        if points.shape[2] != self.groups:
            raise UserError(f'the stage samples {points.shape[2]} groups of points, but roi_extractor.groups is '
                            f'{self.groups}: set both to the same number')
        index, weight = self.corners(points[..., None, :2])
        weight = (weight * self.level_weights(points[..., 2])[..., None]).flatten(-2)
        image = torch.arange(points.shape[0], device=points.device) % self.batch
        row = image[:, None, None, None, None] * self.rows_per_image + index.flatten(-2)
        row = row * self.groups + torch.arange(self.groups, device=points.device)[:, None, None]
        sums = self.rows.sums(row.flatten(0, 3), weight.flatten(0, 3))
        return sums.unflatten(0, (-1, *points.shape[2:4]))

    def level_weights(self, z: Tensor) -> Tensor:
        """Scales (...) to the weights of the levels (..., L), which sum to 1."""
        return (-(z[..., None] - self.level_stride.to(z.dtype).log2())**2 / 2).softmax(dim=-1)

    def corners(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Positions (..., 1, 2) in pixels to rows within an image and bilinear weights, both (..., L, 4)."""
        cells = positions / self.level_stride[:, None] - 0.5  # cell centers are integers
        low = cells.detach().floor()
        fraction = cells - low
        corner = torch.stack([low, low + 1])
        inside = (corner >= 0) & (corner < self.level_size)
        weight = torch.stack([1 - fraction, fraction]) * inside
        x, y = torch.where(inside, corner, 0).long().unbind(-1)  # also where a position is not finite
        x_weight, y_weight = weight.unbind(-1)
        index = self.level_start + y[:, None] * self.level_size[:, 0] + x
        return index.flatten(0, 1).movedim(0, -1), (y_weight[:, None] * x_weight).flatten(0, 1).movedim(0, -1)


@MODELS.register_module()
class PointSampler(nn.Module):
    """Builds the pyramid that stages sample points from, instead of RoIAlign.

    Args:
        strides: the strides of the levels, finest first.
        groups: G, groups of channels, each with its own points.
    """

    def __init__(self, *, strides: Sequence[int] = (4, 8, 16, 32), groups: int = 4) -> None:
        super().__init__()
        self.strides, self.groups = tuple(strides), groups

    def forward(self, feats: Sequence[Tensor]) -> PointPyramid:
        """Build the pyramid from the feature levels."""
        if len(feats) != len(self.strides):
            raise UserError(f'the neck gives {len(feats)} levels, but roi_extractor.strides names {len(self.strides)}')
        if feats[0].shape[1] % self.groups:
            raise UserError(f'the neck gives {feats[0].shape[1]} channels, which do not divide into {self.groups} '
                            'groups: set roi_extractor.groups and bbox_head.groups to a divisor')
        return PointPyramid(feats, self.strides, self.groups)
