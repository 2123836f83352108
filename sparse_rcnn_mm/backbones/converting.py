"""Recognizes the backbones of other projects, and renames their entries to those of the backbones used here.

Sources of the names: torchvision (ResNet, MobileNetV2), timm's ResNets, which have torchvision's names, detectron2's
ResNets, the encoders of MoCo (arXiv 1911.05722) and DetCo (arXiv 2102.04803), and OpenMMLab's classifiers.
"""
from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from torch import Tensor

from sparse_rcnn_mm.checkpoints import compare
from sparse_rcnn_mm.checkpoints.official import backbone_from_official, is_backbone, resnet_depth
from sparse_rcnn_mm.errors import UserError
from sparse_rcnn_mm.registry import MODELS, without_values

from .choosing import PREFIX
from .timm_backbone import TimmBackbone

# Before the names of the backbone, where a file holds more: MoCo and DetCo, MoCo v3, OpenMMLab.
_WITHIN = ('encoder_q.', 'base_encoder.', 'backbone.')
_CLASSIFIERS = ('fc.', 'stem.fc.', 'classifier.', 'head.')
_MOBILENET_STAGES = (1, 2, 3, 4, 3, 3, 1)  # blocks
_MOBILENET_ENTRY = re.compile(r'features\.(?P<block>\d+)(?:\.conv)?\.(?P<unit>\d+(?:\.\d+)?)\.(?P<leaf>\w+)')


class Converted(NamedTuple):
    """A backbone.

    Attributes:
        name: what `backbone=NAME` calls it.
        state: its entries, with the names of the class that `backbone=NAME` builds.
        left_out: entries of the file that are not in the backbone, such as those of a classifier.
    """
    name: str
    state: dict[str, Tensor]
    left_out: list[str]


def convert_backbone(state: Mapping[str, Tensor]) -> Converted:
    """Convert the state dict of a ResNet or a MobileNetV2, whoever wrote it.

    Raises:
        UserError: it is another network, or entries are missing, unknown or of another shape.
    """
    found, left_out = _backbone_in(state)
    classifier = [name for name in found if name.startswith(_CLASSIFIERS)]
    kept = {name: value for name, value in found.items() if name not in classifier}
    if is_backbone(kept):
        renamed, depth = backbone_from_official(kept)
        return Converted(f'resnet{depth}', renamed, classifier + left_out)
    if 'layer1.0.conv1.weight' in kept and 'conv1.weight' in kept:
        depth = resnet_depth(kept, prefix='')
        _check(kept, dict(type='mmdet.ResNet', depth=depth))
        return Converted(f'resnet{depth}', kept, classifier + left_out)
    if 'layer1.0.depthwise_conv.conv.weight' in kept or 'features.1.conv.0.weight' in kept or (
            'features.1.conv.0.0.weight' in kept):
        renamed = _mobilenet_v2(kept)
        _check(renamed, dict(type='mmdet.MobileNetV2'))
        return Converted('mobilenet_v2', renamed, classifier + left_out)
    raise UserError('this is neither a Sparse R-CNN nor a ResNet or MobileNetV2 of torchvision, timm, MoCo, DetCo, '
                    f'detectron2 or OpenMMLab (its first entries: {"; ".join(list(state)[:3])}); for another network '
                    'of timm, pass --backbone timm/NAME')


def convert_timm(path: str, name: str) -> Converted:
    """Convert the checkpoint of a timm network, given its name with or without `timm/`.

    Raises:
        UserError: timm is missing, has no such network, or the file holds another one.
    """
    model = name.removeprefix(PREFIX)
    backbone = TimmBackbone(model=model, init_cfg=dict(type='Pretrained', checkpoint=path))
    backbone.init_weights()
    return Converted(f'{PREFIX}{model}', backbone.state_dict(), [])


def _backbone_in(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """The entries of the backbone without their prefix, and the names of all other entries."""
    prefixes = [prefix for prefix in _WITHIN if any(name.startswith(prefix) for name in state)]
    if not prefixes:
        return dict(state), []
    if len(prefixes) > 1:
        raise UserError(f'this file holds several networks ({", ".join(prefixes)}): keep the entries of one of them')
    inside = {name.removeprefix(prefixes[0]): value for name, value in state.items() if name.startswith(prefixes[0])}
    return inside, [name for name in state if not name.startswith(prefixes[0])]


def _mobilenet_v2(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the entries of torchvision's MobileNetV2, old and new; mmdet's names stay.

    Both number the convolutions and batch norms of a block in the order of the network: the old one flat (conv.0,
    conv.1, conv.3, conv.4), the new one nested (conv.0.0, conv.0.1, conv.1, conv.2).
    """
    entries = {name: match for name in state if (match := _MOBILENET_ENTRY.fullmatch(name))}
    units: dict[str, set[str]] = {}
    for match in entries.values():
        units.setdefault(match['block'], set()).add(match['unit'])
    order = {block: sorted(of_block, key=lambda unit: [int(part) for part in unit.split('.')])
             for block, of_block in units.items()}
    renamed = {}
    for name, value in state.items():
        match = entries.get(name)
        place = match and _mobilenet_place(match, order[match['block']])
        renamed[place or name] = value
    return renamed


def _mobilenet_place(match: re.Match[str], units: list[str]) -> str | None:
    """Our name of an entry of torchvision's MobileNetV2. None if the network has no such block or layer."""
    blocks = ['conv1', *(f'layer{stage}.{index}' for stage, number in enumerate(_MOBILENET_STAGES, start=1)
                         for index in range(number)), 'conv2']
    block = int(match['block'])
    if block >= len(blocks):
        return None
    parts = ['']
    if blocks[block].startswith('layer'):
        # The first block does not widen its input.
        parts = [f'.{part}' for part in ('expand_conv', 'depthwise_conv', 'linear_conv')][0 if len(units) > 4 else 1:]
    layer, is_norm = divmod(units.index(match['unit']), 2)
    if layer >= len(parts):
        return None
    return f'{blocks[block]}{parts[layer]}.{"bn" if is_norm else "conv"}.{match["leaf"]}'


def _check(state: dict[str, Tensor], config: dict[str, Any]) -> None:
    with without_values():
        expected = MODELS.build(config).state_dict()
    report = compare(state, expected)
    if not report.complete:
        raise UserError(f'the backbone is not complete: {report.summary(most=1000)}')
