"""Translates state dict keys between the official code and this package, in both directions.

Official: PeizeSun/SparseR-CNN on detectron2. Ours: mmdet's names. Checkpoints differ only in the names: no tensor is
permuted or reshaped.
"""
import re
from collections.abc import Mapping
from typing import TypeVar

T = TypeVar('T')

# `<letter>` is a number. Levels and residual stages count from 2 in detectron2: `<l>` and `<r>` are shifted below.
_RULES = (
    ('init_proposal_features', 'rpn_head.init_proposal_features'),
    ('init_proposal_boxes', 'rpn_head.init_proposal_bboxes'),
    ('backbone.fpn_lateral<l>', 'neck.lateral_convs.<l>.conv'),
    ('backbone.fpn_output<l>', 'neck.fpn_convs.<l>.conv'),
    ('backbone.bottom_up.stem.conv1', 'backbone.conv1'),
    ('backbone.bottom_up.stem.conv1.norm', 'backbone.bn1'),
    ('backbone.bottom_up.res<r>.<b>.conv<c>', 'backbone.layer<r>.<b>.conv<c>'),
    ('backbone.bottom_up.res<r>.<b>.conv<c>.norm', 'backbone.layer<r>.<b>.bn<c>'),
    ('backbone.bottom_up.res<r>.<b>.shortcut', 'backbone.layer<r>.<b>.downsample.0'),
    ('backbone.bottom_up.res<r>.<b>.shortcut.norm', 'backbone.layer<r>.<b>.downsample.1'),
    *((f'head.head_series.<t>.{official}', f'roi_head.bbox_head.<t>.{ours}') for official, ours in (
        ('self_attn', 'attention.attn'),
        ('self_attn.out_proj', 'attention.attn.out_proj'),
        ('norm1', 'attention_norm'),
        ('inst_interact.dynamic_layer', 'instance_interactive_conv.dynamic_layer'),
        ('inst_interact.norm1', 'instance_interactive_conv.norm_in'),
        ('inst_interact.norm2', 'instance_interactive_conv.norm_out'),
        ('inst_interact.out_layer', 'instance_interactive_conv.fc_layer'),
        ('inst_interact.norm3', 'instance_interactive_conv.fc_norm'),
        ('norm2', 'instance_interactive_conv_norm'),
        ('linear1', 'ffn.layers.0.0'),
        ('linear2', 'ffn.layers.1'),
        ('norm3', 'ffn_norm'),
        ('cls_module.<m>', 'cls_fcs.<m>'),
        ('reg_module.<m>', 'reg_fcs.<m>'),
        ('class_logits', 'fc_cls'),
        ('bboxes_delta', 'fc_reg'),
    )),
)
_FIRST = {'l': 2, 'r': 1}  # official number minus ours


def _pattern(template: str) -> re.Pattern[str]:
    body = re.sub(r'<(\w)>', r'(?P<\1>\\d{1,4})', template.replace('.', r'\.'))
    return re.compile(rf'{body}\.(?P<leaf>\w+)')


_OFFICIAL = tuple((_pattern(official), ours) for official, ours in _RULES)
_OURS = tuple((_pattern(ours), official) for official, ours in _RULES)


def _translate(name: str, rules: tuple[tuple[re.Pattern[str], str], ...], sign: int) -> str | None:
    for pattern, template in rules:
        if match := pattern.fullmatch(name):
            groups = match.groupdict()
            leaf = groups.pop('leaf')
            for letter, number in groups.items():
                template = template.replace(f'<{letter}>', str(int(number) + sign * _FIRST.get(letter, 0)))
            return f'{template}.{leaf}'
    return None


def from_official_name(name: str) -> str | None:
    """Translate an official key to ours; None if the official model has no such key."""
    return _translate(name, _OFFICIAL, -1)


def to_official_name(name: str) -> str | None:
    """Translate our key to the official one; None if unknown, and for `num_batches_tracked`, which it does not have."""
    return None if name.endswith('.num_batches_tracked') else _translate(name, _OURS, 1)


def rename(state: Mapping[str, T], official: bool) -> tuple[dict[str, T], list[str]]:
    """Rename all entries, to the official names or to ours. Also returns the names that have no counterpart."""
    translate = to_official_name if official else from_official_name
    renamed, unknown = {}, []
    for name, value in state.items():
        new = translate(name)
        if new is None:
            unknown.append(name)
        else:
            renamed[new] = value
    return renamed, unknown


def from_released_adamixer(entries: dict[str, T]) -> dict[str, T]:
    """Rename the neck of a checkpoint of MCG-NJU/AdaMixer to our names. Other checkpoints are not changed."""
    if 'rpn_head.init_content_features.weight' not in entries:
        return entries
    return {name.replace('neck.lateral_convs.', 'neck.convs.'): value for name, value in entries.items()}
