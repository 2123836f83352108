"""The feature pyramid, its last convolutions computed only where a box looks.

The 3x3 convolutions at the end of an FPN are a third of the work of a Sparse R-CNN, and small boxes read little of the
finest levels. Here each large level is cut into tiles, and a tile is convolved when the first box of any stage needs
it. The numbers that are read are those of the whole convolution; in the worst case all tiles are computed.
"""
from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmcv.cnn import ConvModule
from mmdet.models.necks import FPN
from torch import Tensor, nn

from sparse_rcnn_mm.models import DIIHead, EmbeddingRPNHead, RoIExtractor, SparseRCNN, SparseRoIHead
from sparse_rcnn_mm.models.box_ops import at_least_float32
from sparse_rcnn_mm.models.roi_extractor import Pyramid

TILE = 4  # cells per side
TILES_AT_ONCE = 256  # keeps the memory small
WORTH_TILES = 20000  # cells; in a smaller level choosing costs more than it saves


class LazyPyramid(Pyramid):
    """A `Pyramid` of what the levels (B, C, H_l, W_l) are after the 3x3 convolutions `convs`, one per level.

    The convolutions pad nothing: each tile comes with a ring of cells around it, which are 0 outside the level.
    """

    def __init__(self, feats: Sequence[Tensor], extractor: RoIExtractor, convs: Iterable[nn.Module]) -> None:
        super().__init__(feats, extractor)
        self.lazy = {}
        for index, (feat, conv, start) in enumerate(zip(feats, convs, self.level_start.tolist(), strict=True)):
            if feat.shape[2] * feat.shape[3] >= WORTH_TILES:
                self.lazy[index] = _Level(feat, conv, start, self.rows_per_image)
            else:
                values = conv(F.pad(feat, (1, 1, 1, 1))).flatten(2).transpose(1, 2)
                self.rows.view(len(feat), self.rows_per_image, -1)[:, start:start + values.shape[1]] = values

    def _flatten(self, feats: Sequence[Tensor]) -> Tensor:
        return feats[0].new_zeros(len(feats[0]) * self.rows_per_image, feats[0].shape[1])

    def compute(self, boxes: Tensor, images: Tensor, level_of_box: Tensor) -> None:
        """Convolve what `boxes` (M, 4) of the images (M,), pooled from the levels (M,), read for the first time."""
        for index, level in self.lazy.items():
            here = level_of_box == index
            level.compute(self.rows, boxes[here] / self.strides[index], images[here])


class _Level:
    """One level before its convolution, and which tiles of (B, tiles down, tiles across) are computed."""

    def __init__(self, feat: Tensor, conv: nn.Module, start: int, rows_per_image: int) -> None:
        self.feat, self.conv, self.start, self.rows_per_image = feat, conv, start, rows_per_image
        batch, _, self.height, self.width = feat.shape
        self.done = torch.zeros(batch, -(-self.height // TILE), -(-self.width // TILE), dtype=torch.bool)

    def compute(self, rows: Tensor, boxes: Tensor, images: Tensor) -> None:
        """Write into `rows` what `boxes` (M, 4), in cells, of the images (M,) need and is not there yet."""
        missing = self._needed(boxes, images) & ~self.done
        self.done |= missing
        for tiles in missing.nonzero().split(TILES_AT_ONCE):
            image, y, x = tiles[:, :, None, None].unbind(1)
            ring = torch.arange(-1, TILE + 1)
            y, x = y * TILE + ring[:, None], x * TILE + ring
            inside = (y >= 0) & (y < self.height) & (x >= 0) & (x < self.width)
            patches = self.feat.permute(0, 2, 3, 1)[image, y.clamp(0, self.height - 1), x.clamp(0, self.width - 1)]
            patches[~inside] = 0
            values = self.conv(patches.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
            index = self.start + image * self.rows_per_image + y * self.width + x
            inside, index = inside[:, 1:-1, 1:-1], index[:, 1:-1, 1:-1]
            rows[index[inside]] = values[inside].to(rows.dtype)

    def _needed(self, boxes: Tensor, images: Tensor) -> Tensor:
        """The tiles that RoIAlign of the boxes reads: its samples lie inside the box, between the centres of cells."""
        last = boxes.new_tensor([self.width, self.height]) - 1
        ends = (boxes.view(-1, 2, 2) - 0.5).floor()
        low = (torch.minimum(ends.amin(1).clamp(min=0), last) / TILE).floor()
        high = (torch.minimum((ends.amax(1) + 1).clamp(min=0), last) / TILE).floor()
        x, y = torch.arange(self.done.shape[2]), torch.arange(self.done.shape[1])
        across = (x >= low[:, :1]) & (x <= high[:, :1])
        down = (y >= low[:, 1:]) & (y <= high[:, 1:])
        needed = torch.zeros(self.done.shape)
        needed.index_add_(0, images, (down[:, :, None] & across[:, None, :]).float())
        return needed > 0


class LazyExtractor(RoIExtractor):
    """The `RoIExtractor` of these settings, given the levels before the `convs`."""

    def __init__(self, convs: Sequence[nn.Module], **settings: Any) -> None:
        super().__init__(**settings)
        self.convs = nn.ModuleList(convs)

    def forward(self, feats: Sequence[Tensor]) -> LazyPyramid:
        return LazyPyramid(feats, self, self.convs)

    def pool(self, pyramid: Pyramid, boxes: Tensor, images: Tensor) -> Tensor:
        assert isinstance(pyramid, LazyPyramid)
        boxes = at_least_float32(boxes)
        pyramid.compute(boxes, images, self.levels(boxes))
        return super().pool(pyramid, boxes, images)


def make_lazy(model: SparseRCNN) -> None:
    """Move the neck's last convolutions behind the choice of boxes, in place, if all parts are those that allow it."""
    neck, head, extractor = model.neck, model.roi_head, model.roi_head.roi_extractor
    if (type(neck), type(head), type(model.rpn_head)) != (FPN, SparseRoIHead, EmbeddingRPNHead):
        return
    if type(extractor) is not RoIExtractor or any(type(stage) is not DIIHead for stage in head.bbox_head):
        return
    one_conv_a_level = len(neck.fpn_convs) == neck.num_ins == neck.num_outs == len(extractor.strides)
    if one_conv_a_level and all(map(_is_plain, neck.fpn_convs)):
        convs = [module.conv for module in neck.fpn_convs]
        for conv in convs:
            conv.padding = (0, 0)
        neck.fpn_convs = nn.ModuleList(nn.Identity() for _ in convs)
        head.roi_extractor = LazyExtractor(
            convs, strides=extractor.strides, output_size=extractor.output_size,
            sampling_ratio=extractor.sampling_ratio, finest_scale=extractor.finest_scale)


def _is_plain(module: ConvModule) -> bool:
    """Whether it is a 3x3 convolution of all channels that keeps the size, and nothing more."""
    conv = module.conv
    if module.with_norm or module.with_activation or type(conv) is not nn.Conv2d or conv.padding_mode != 'zeros':
        return False
    return conv.kernel_size == (3, 3) and conv.stride == conv.padding == conv.dilation == (1, 1) and conv.groups == 1
