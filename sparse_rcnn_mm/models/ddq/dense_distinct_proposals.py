"""Dense predictions. The distinct ones become proposals (section 3 of the paper)."""
from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from mmcv.cnn import ConvModule, Scale
from torch import Tensor, nn

from sparse_rcnn_mm.errors import UserError
from sparse_rcnn_mm.ops import at_least_float32
from sparse_rcnn_mm.registry import MODELS

from ..dii_head import PRIOR_PROBABILITY
from .decoding import boxes_around, geometric_mean
from .distinct import distinct
from .pyramid_shuffle import pyramid_shuffle
from .structures import DensePredictions, DistinctProposals

TOWER = 4  # convolutions per tower
SHUFFLED = {'cls': (2, 3), 'reg': (3,)}  # the levels exchange channels before these convolutions


@MODELS.register_module()
class DenseDistinctProposals(nn.Module):
    """Every position of every level predicts a box and its classes. The best distinct boxes become proposals.

    The submodules have the original names (jshilong/DDQ), so that its checkpoints load.

    Args:
        num_classes: K.
        in_channels: C, the channels of levels and queries; a multiple of 4.
        strides: the strides of the levels, finest first.
        start_level: the first level with dense predictions. Earlier levels are used only by the stages.
        num_proposals: the maximum of N. There are fewer if no image has that many distinct boxes.
        num_candidates: how many of the best positions of a level become candidates.
        iou_threshold: two boxes with a higher IoU are not distinct.
        norm_groups: groups of the group norms in the towers.
    """

    def __init__(self, *, num_classes: int = 80, in_channels: int = 256,
                 strides: Sequence[int] = (8, 16, 32, 64, 128), start_level: int = 1, num_proposals: int = 300,
                 num_candidates: int = 1000, iou_threshold: float = 0.7, norm_groups: int = 32) -> None:
        super().__init__()
        self.strides, self.start_level, self.num_proposals = tuple(strides), start_level, num_proposals
        self.num_candidates, self.iou_threshold = num_candidates, iou_threshold
        self.shuffled_channels = in_channels // 4
        self.cls_convs, self.reg_convs = (nn.ModuleList(
            ConvModule(in_channels, in_channels, 3, padding=1, norm_cfg=dict(type='GN', num_groups=norm_groups))
            for _ in range(TOWER)) for _ in range(2))
        self.objectness, self.aux_conv_objectness = (nn.Sequential(
            nn.Conv2d(in_channels, in_channels // 4, 1), nn.ReLU(inplace=True),
            nn.Conv2d(in_channels // 4, 1, 3, padding=1)) for _ in range(2))
        self.conv_cls, self.aux_conv_cls = (nn.Conv2d(in_channels, num_classes, 3, padding=1) for _ in range(2))
        self.conv_reg, self.aux_conv_reg = (nn.Conv2d(in_channels, 4, 3, padding=1) for _ in range(2))
        self.scales, self.aux_scales = (nn.ModuleList(Scale(1.) for _ in self.strides) for _ in range(2))
        self.compress = nn.Linear(2 * in_channels, in_channels)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initialize kernels with small random values, and classes and objectness by the prior probability."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=0.01)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        for module in (self.conv_cls, self.aux_conv_cls, self.aux_conv_objectness):
            *_, bias = module.parameters()
            nn.init.constant_(bias, -math.log((1 - PRIOR_PROBABILITY) / PRIOR_PROBABILITY))

    def forward(self, feats: Sequence[Tensor], img_whwh: Tensor) -> DistinctProposals:
        """Levels (B, C, H_l, W_l) to proposals. The image size is not used, so boxes may be outside the image."""
        feats = feats[self.start_level:]
        if len(feats) != len(self.strides):
            raise UserError(f'the neck gives {len(feats)} levels from rpn_head.start_level {self.start_level} on, but '
                            f'rpn_head.strides names {len(self.strides)}')
        cls_feats, reg_feats = self.tower('cls', feats), self.tower('reg', feats)
        main = self.distinct_of(self.candidates(
            cls_feats, reg_feats, self.conv_cls, self.objectness, self.conv_reg, self.scales))
        auxiliary = self.candidates(cls_feats, reg_feats, self.aux_conv_cls, self.aux_conv_objectness,
                                    self.aux_conv_reg, self.aux_scales) if self.training else None
        boxes, queries = self.proposals(main, torch.cat([_flat(cls_feats), _flat(reg_feats)], dim=-1))
        return DistinctProposals(boxes, queries, main, auxiliary)

    def tower(self, kind: str, feats: Sequence[Tensor]) -> Sequence[Tensor]:
        """Run the convolutions of the class tower ('cls') or the box tower ('reg') on the levels."""
        for index, conv in enumerate(getattr(self, f'{kind}_convs')):
            if index in SHUFFLED[kind]:
                feats = pyramid_shuffle(feats, self.shuffled_channels)
            feats = [conv(feat) for feat in feats]
        return feats

    def candidates(self, cls_feats: Sequence[Tensor], reg_feats: Sequence[Tensor], conv_cls: nn.Module,
                   objectness: nn.Module, conv_reg: nn.Module, scales: nn.ModuleList) -> DensePredictions:
        """The best positions of every level, level by level. Candidates whose score underflows to 0 are not kept."""
        logits, objects, boxes = [], [], []
        for level, (cls_feat, reg_feat) in enumerate(zip(cls_feats, reg_feats, strict=True)):
            logits.append(conv_cls(cls_feat))
            objects.append(objectness(reg_feat))
            distances = scales[level](at_least_float32(conv_reg(reg_feat)).exp()) * self.strides[level]
            boxes.append(boxes_around(distances, self.strides[level]))
        class_logits, object_logits, all_boxes = _flat(logits), _flat(objects), _flat(boxes)
        with torch.no_grad():
            best = geometric_mean(class_logits.amax(-1), object_logits[..., 0])
            ids = self.best_of_every_level(best, [feat.shape[2] * feat.shape[3] for feat in cls_feats])
        scores = geometric_mean(_rows(class_logits, ids), _rows(object_logits, ids))
        return DensePredictions(ids, scores, _rows(all_boxes, ids), best.gather(1, ids) > 0)

    def best_of_every_level(self, scores: Tensor, sizes: Sequence[int]) -> Tensor:
        """Scores (B, P) of levels with `sizes` positions to positions (B, M)."""
        found, start = [], 0
        for level_scores in scores.split(sizes, dim=1):
            size = level_scores.shape[1]
            found.append(level_scores.topk(min(self.num_candidates, size)).indices + start)
            start += size
        return torch.cat(found, dim=1)

    def distinct_of(self, candidates: DensePredictions) -> DensePredictions:
        """Sort the candidates by score, and keep the distinct ones."""
        order = candidates.scores.detach().amax(-1).argsort(dim=1, descending=True, stable=True)
        ids, kept = candidates.ids.gather(1, order), candidates.kept.gather(1, order)
        boxes = _rows(candidates.boxes, order)
        kept = kept & torch.stack([distinct(one, self.iou_threshold) for one in boxes.detach()])
        return DensePredictions(ids, _rows(candidates.scores, order), boxes, kept)

    def proposals(self, main: DensePredictions, feats: Tensor) -> tuple[Tensor, Tensor]:
        """Boxes (B, N, 4) and queries (B, N, C) of the best that are kept, from features (B, P, 2C) of positions."""
        count = min(self.num_proposals, max(1, int(main.kept.sum(1).max())))
        order = main.kept.long().argsort(dim=1, descending=True, stable=True)[:, :count]
        exists = main.kept.gather(1, order)[..., None]
        # The stages do not train the dense predictions, only the layer that computes the queries.
        queries = self.compress(_rows(feats.detach(), main.ids.gather(1, order)))
        return _rows(main.boxes.detach(), order) * exists, queries * exists


def _flat(levels: Sequence[Tensor]) -> Tensor:
    """Levels (B, C, H_l, W_l) to (B, P, C)."""
    return torch.cat([level.flatten(2).transpose(1, 2) for level in levels], dim=1)


def _rows(values: Tensor, index: Tensor) -> Tensor:
    """Rows (B, M) of values (B, P, C): (B, M, C)."""
    return values.gather(1, index[..., None].expand(-1, -1, values.shape[-1]))
