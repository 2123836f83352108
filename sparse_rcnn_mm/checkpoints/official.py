"""Converts checkpoints of the official code (detectron2) to this package and back. Only the names change."""
from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from mmengine.config import Config
from torch import Tensor, nn

from sparse_rcnn_mm.errors import UserError, in_short
from sparse_rcnn_mm.registry import MODELS, without_values

from .keys import rename
from .loading import compare

State = Mapping[str, Tensor]

# Blocks per residual stage, and whether they are bottlenecks.
_DEPTHS: dict[tuple[tuple[int, ...], bool], int] = {
    ((2, 2, 2, 2), False): 18,
    ((3, 4, 6, 3), False): 34,
    ((3, 4, 6, 3), True): 50,
    ((3, 4, 23, 3), True): 101,
    ((3, 8, 36, 3), True): 152,
}
_STEM = 'backbone.bottom_up.'
_MOST_CLASSES = 1_000_000


@dataclass(frozen=True)
class Architecture:
    """The sizes of a Sparse R-CNN that can be read from a state dict: all except the number of attention heads."""
    depth: int
    level_channels: tuple[int, ...]
    channels: int
    num_proposals: int
    num_stages: int
    num_classes: int
    dynamic_channels: int
    ffn_channels: int
    num_cls_fcs: int
    num_reg_fcs: int

    @classmethod
    def of(cls, state: State) -> Architecture:
        """Read the sizes from a state dict with our names.

        Raises:
            UserError: a required entry is missing, or the backbone is not a ResNet of a known depth.
        """
        head = 'roi_head.bbox_head.0.'
        num_levels = _count(state, r'neck\.lateral_convs\.(\d\d?)\.')
        telling = {
            'features': 'rpn_head.init_proposal_features.weight',
            'classes': f'{head}fc_cls.weight',
            'norm': f'{head}instance_interactive_conv.norm_in.weight',
            'ffn': f'{head}ffn.layers.0.0.weight',
            **{f'level{i}': f'neck.lateral_convs.{i}.conv.weight' for i in range(max(num_levels, 1))},
        }
        lacking = [name for name in telling.values() if name not in state]
        if lacking:
            raise UserError(f'this is not a complete Sparse R-CNN: it lacks {"; ".join(lacking)} (our names)')
        size = {key: tuple(state[name].shape) for key, name in telling.items()}
        if flat := [telling[key] for key, shape in size.items() if len(shape) < (1 if key == 'norm' else 2)]:
            raise UserError(f'this is not a Sparse R-CNN: {flat[0]} has the shape {tuple(state[flat[0]].shape)}')
        if size['classes'][0] > _MOST_CLASSES:
            raise UserError(f'this is not a Sparse R-CNN: it has {size["classes"][0]} classes')
        return cls(
            depth=resnet_depth(state),
            level_channels=tuple(size[f'level{i}'][1] for i in range(num_levels)),
            channels=size['features'][1],
            num_proposals=size['features'][0],
            num_stages=_count(state, r'roi_head\.bbox_head\.(\d\d?)\.'),
            num_classes=size['classes'][0],
            dynamic_channels=size['norm'][0],
            ffn_channels=size['ffn'][0],
            # each layer has three numbers: linear, norm, and activation, which has no entry
            num_cls_fcs=(_count(state, rf'{re.escape(head)}cls_fcs\.(\d\d?)\.') + 1) // 3,
            num_reg_fcs=(_count(state, rf'{re.escape(head)}reg_fcs\.(\d\d?)\.') + 1) // 3,
        )

    def apply_to(self, cfg: Config) -> None:
        """Set the sizes in a config of this package."""
        model = cfg.model
        if model.backbone.depth != self.depth:
            model.backbone.depth, model.backbone.init_cfg = self.depth, None
        model.neck.in_channels = list(self.level_channels)
        model.neck.out_channels = self.channels
        model.rpn_head.num_proposals = self.num_proposals
        model.rpn_head.proposal_feature_channel = self.channels
        model.roi_head.num_stages = self.num_stages
        stage = model.roi_head.bbox_head
        stage.num_classes, stage.in_channels = self.num_classes, self.channels
        stage.feedforward_channels = self.ffn_channels
        stage.num_cls_fcs, stage.num_reg_fcs = self.num_cls_fcs, self.num_reg_fcs
        stage.dynamic_conv.feat_channels = self.dynamic_channels
        # The variables at the top of the base configs, which are saved with the config.
        for name in ('num_classes', 'num_proposals', 'num_stages', 'channels'):
            if name in cfg:
                cfg[name] = getattr(self, name)


def resnet_depth(state: State, prefix: str = 'backbone.') -> int:
    """The depth of a ResNet, from a state dict with our names."""
    layers = tuple(_count(state, rf'{re.escape(prefix)}layer{i}\.(\d\d?)\.') for i in (1, 2, 3, 4))
    bottleneck = f'{prefix}layer1.0.conv3.weight' in state
    try:
        return _DEPTHS[layers, bottleneck]
    except KeyError:
        raise UserError(f'no ResNet has {layers} {"bottleneck" if bottleneck else "basic"} blocks: entries of the '
                        'backbone are missing, or it is another network') from None


def _count(state: State, pattern: str) -> int:
    """The largest number of at most two digits in the names that match `pattern`, plus one."""
    matches = (re.match(pattern, name) for name in state)
    return max((int(match[1]) + 1 for match in matches if match), default=0)


def from_official(state: State) -> dict[str, Tensor]:
    """Convert an official state dict to our names.

    Frozen batch norms become ordinary ones, which also have a batch counter; it is set to 0.

    Raises:
        UserError: there are entries that this model does not have.
    """
    if 'criterion.empty_weight' in state:
        raise UserError('the model was trained with the softmax loss (USE_FOCAL False; it has criterion.empty_weight), '
                        'which this package does not have; only models trained with the focal loss can be converted')
    renamed, unknown = rename(state, official=False)
    if unknown:
        raise UserError('this is not a Sparse R-CNN of the official code: '
                        f'{len(unknown)} entries are unknown ({_some(unknown)})')
    for name in [name for name in renamed if name.endswith('.running_var')]:
        renamed[name.replace('.running_var', '.num_batches_tracked')] = torch.tensor(0)
    return renamed


def to_official(state: State) -> dict[str, Tensor]:
    """Convert our state dict to the official names. The inverse of `from_official`.

    Raises:
        UserError: there are entries that the official model does not have.
    """
    renamed, unknown = rename(state, official=True)
    unknown = [name for name in unknown if not name.endswith('.num_batches_tracked')]
    if unknown:
        raise UserError(f'the official code has no counterpart of {len(unknown)} entries ({_some(unknown)})')
    return renamed


def check_complete(state: State, cfg: Config) -> nn.Module:
    """Return the model of `cfg`, without values. A UserError lists all wrong entries, unless `state` fits exactly."""
    try:
        with without_values():
            model = MODELS.build(cfg.model)
            expected = model.state_dict()
    except Exception as error:  # sizes from a file of anybody can make a constructor raise anything
        raise UserError('the sizes of the weights are not those of a Sparse R-CNN '
                        f'({in_short(error)})') from error
    report = compare(dict(state), expected)
    if not report.complete:
        raise UserError(f'the checkpoint is not complete: {report.summary(most=1000)}')
    return model


def is_detector(state: State) -> bool:
    """Whether a state dict has parts of a detector besides its backbone: of the official code, or of mmdet's kind."""
    return any(name.startswith(('head.head_series.', 'init_proposal', 'backbone.bottom_up.', 'rpn_head.', 'roi_head.'))
               for name in state)


def is_backbone(state: State) -> bool:
    """Whether a state dict contains only a detectron2 ResNet, such as torchvision's R-101.pkl."""
    return any(name.startswith(('stem.', 'res2.')) for name in state)


def backbone_from_official(state: State) -> tuple[dict[str, Tensor], int]:
    """Convert a detectron2 ResNet without its classifier to mmdet's names, for `init_cfg`. Also returns its depth.

    Raises:
        UserError: entries are missing, unknown or of another shape.
    """
    named = {_STEM + name: value for name, value in state.items()
             if not name.startswith(('fc.', 'stem.fc.')) and not name.endswith('.num_batches_tracked')}
    renamed = from_official(named)
    depth = resnet_depth(renamed)
    renamed = {name.removeprefix('backbone.'): value for name, value in renamed.items()}
    with without_values():
        expected = MODELS.build(dict(type='mmdet.ResNet', depth=depth)).state_dict()
    report = compare(renamed, expected)
    if not report.complete:
        raise UserError(f'the backbone is not complete: {report.summary(most=1000)}')
    return renamed, depth


def dataset_meta(num_classes: int, names: Sequence[str] | None = None) -> dict[str, Any]:
    """Make mmdet's `dataset_meta`. If no names are given and there are 80 classes, those of COCO are used."""
    if names:
        if len(names) != num_classes:
            raise UserError(f'{len(names)} class names were given, but the checkpoint has {num_classes} classes')
        return {'classes': tuple(names)}
    if num_classes == 80:
        from mmdet.datasets import CocoDataset
        return {key: CocoDataset.METAINFO[key] for key in ('classes', 'palette')}
    return {'classes': tuple(f'class_{index}' for index in range(num_classes))}


def _some(names: Sequence[str], most: int = 20) -> str:
    return '; '.join(names[:most]) + ('; ...' if len(names) > most else '')
