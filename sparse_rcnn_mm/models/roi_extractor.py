"""Multi-level RoIAlign in plain torch, as one weighted gather.

RoIAlign is linear in the features, and its weights depend only on the boxes. With the pyramid flattened to rows, every
output bin is a weighted sum of 16 rows (2x2 samples of 4 corners each), which `embedding_bag` computes.
"""
from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sparse_rcnn_mm.errors import UserError
from sparse_rcnn_mm.ops import at_least_float32
from sparse_rcnn_mm.ops.weighted_rows import WeightedRows
from sparse_rcnn_mm.registry import MODELS


class Pyramid:
    """The feature maps of a batch, flattened once for all stages.

    Attributes:
        feats: L levels of (B, C, H_l, W_l), finest first.
        strides: pixels of the image per cell of each level.
        rows: the `WeightedRows` (B * sum(H_l * W_l), C), ordered by image, level, y, x.
        level_size: (L, 2) float, W_l and H_l.
        level_start: (L,) long, first row of each level within an image.
    """

    def __init__(self, feats: Sequence[Tensor], extractor: RoIExtractor) -> None:
        self.feats, self.strides, self._extractor = feats, extractor.strides, extractor
        sizes = [feat.shape[2:] for feat in feats]
        starts = [0, *itertools.accumulate(height * width for height, width in sizes)]
        self.batch, self.rows_per_image = feats[0].shape[0], starts[-1]
        self.rows = WeightedRows(torch.cat([feat.flatten(2).transpose(1, 2) for feat in feats], dim=1).flatten(0, 1))
        # An asynchronous copy, so that a GPU keeps computing the features.
        self.level_size, self.level_start, self.level_stride = (
            table.to(feats[0].device, non_blocking=True) for table in (
                torch.tensor([(w, h) for h, w in sizes], dtype=torch.float32), torch.tensor(starts[:-1]),
                torch.tensor(self.strides, dtype=torch.float32)))

    def roi_feats(self, boxes: Tensor, images: Tensor | None = None) -> Tensor:
        """Pool boxes to (G*B*N or M, P*P, C).

        Args:
            boxes: (G*B, N, 4), where row r belongs to image r % B, so that groups need no copies of the features; or
                (M, 4) of the images (M,). As in RoIAlign, they get no gradient.
        """
        if images is None:
            rows = torch.arange(boxes.shape[0], device=boxes.device) % self.batch
            images = rows[:, None].expand(-1, boxes.shape[1]).flatten()
        return self._extractor.pool(self, boxes.detach().reshape(-1, 4), images)


@MODELS.register_module()
class RoIExtractor(nn.Module):
    """RoIAlign (aligned, 2x2 samples per bin) from the pyramid level that fits the size of each box.

    Args:
        strides: the strides of the levels, finest first; each is twice the previous one.
        output_size: P, bins per side.
        sampling_ratio: samples per bin and side.
        finest_scale: boxes of sqrt(area) below twice this many pixels are pooled from the finest level, and each
            further level takes boxes of twice the size (equation 1 of the FPN paper, arXiv 1612.03144).
    """

    def __init__(self, *, strides: Sequence[int] = (4, 8, 16, 32), output_size: int = 7, sampling_ratio: int = 2,
                 finest_scale: int = 56) -> None:
        super().__init__()
        self.strides, self.output_size = tuple(strides), output_size
        self.sampling_ratio, self.finest_scale = sampling_ratio, finest_scale

    def forward(self, feats: Sequence[Tensor]) -> Pyramid:
        if len(feats) != len(self.strides):
            raise UserError(f'the neck gives {len(feats)} levels, but roi_extractor.strides names {len(self.strides)}')
        return Pyramid(feats, self)

    def levels(self, boxes: Tensor) -> Tensor:
        """The level (...) long of each box (..., 4)."""
        size = boxes[..., 2:] - boxes[..., :2]
        scale = (size[..., 0] * size[..., 1]).clamp(min=0).sqrt() / (4 * self.finest_scale)
        # The paper's scale of 224 (4 x 56) belongs to its level 4, and its finest level is 2. detectron2 adds 1e-8.
        level = (4 + torch.log2(scale + 1e-8)).floor() - 2
        return level.nan_to_num(0.).clamp(0, len(self.strides) - 1).long()

    def pool(self, pyramid: Pyramid, boxes: Tensor, images: Tensor) -> Tensor:
        """Boxes (M, 4) of the images (M,) to (M, P*P, C)."""
        with torch.no_grad():
            level = self.levels(at_least_float32(boxes))
            size = pyramid.level_size[level]
            scaled = at_least_float32(boxes) / pyramid.level_stride[level, None] - 0.5
            x, x_weight = self._axis(scaled[:, 0], scaled[:, 2], size[:, 0])
            y, y_weight = self._axis(scaled[:, 1], scaled[:, 3], size[:, 1])
            row = (images * pyramid.rows_per_image + pyramid.level_start[level])[:, None, None]
            y = row + y * size[:, 0, None, None].long()
            index = y[:, :, None, :, None] + x[:, None, :, None, :]
            weight = y_weight[:, :, None, :, None] * x_weight[:, None, :, None, :]
        pooled = pyramid.rows.sums(index.flatten(3).flatten(0, 2), weight.flatten(3).flatten(0, 2))
        return pooled.view(boxes.shape[0], self.output_size**2, pooled.shape[-1])

    def _axis(self, start: Tensor, end: Tensor, size: Tensor) -> tuple[Tensor, Tensor]:
        """The cells along one axis that each bin reads, and their weights.

        Args:
            start, end: (M,) ends of the boxes in cells, where cell centers are integers.
            size: (M,) the number of cells along this axis.

        Returns:
            Indices (long) and weights, both (M, P, 2 * sampling_ratio); the weights of a bin sum to 1 where all its
            samples lie in the map. Samples more than one cell outside weigh 0, as in RoIAlign.
        """
        samples = self.output_size * self.sampling_ratio
        offset = (torch.arange(samples, device=start.device) + 0.5) / samples
        position = start[:, None] + (end - start)[:, None] * offset
        inside = (position >= -1) & (position <= size[:, None])
        last = size[:, None] - 1
        position = torch.where(inside, position, 0).clamp(min=0).minimum(last)
        low = position.floor()
        fraction = position - low
        index = torch.stack([low, (low + 1).minimum(last)], dim=-1).long()
        weight = torch.stack([1 - fraction, fraction], dim=-1) * inside[..., None] / self.sampling_ratio
        shape = (start.shape[0], self.output_size, 2 * self.sampling_ratio)
        return index.view(shape), weight.view(shape)
