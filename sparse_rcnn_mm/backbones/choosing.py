"""Changes the backbone of a config, given only a name."""
from __future__ import annotations

import copy
from typing import Any

from mmengine.config import Config

from sparse_rcnn_mm.errors import UserError, did_you_mean

from .known import KNOWN
from .timm_backbone import OWN_WEIGHTS, import_timm, timm_channels

STRIDES = (4, 8, 16, 32)
PREFIX = 'timm/'


def set_backbone(cfg: Config, name: str) -> None:
    """Set the backbone of a config, and the channels of its FPN. mmdet's models take precedence; timm/NAME is timm's.

    Everything else stays as in the config: the feature levels, the learning rate and the schedule.

    Raises:
        UserError: neither mmdet nor timm has a model of this name, or it does not have these levels.
    """
    levels = _levels(cfg)
    backbone, channels = _known(name, levels) if name in KNOWN else _of_timm(name, levels)
    cfg.model.backbone = backbone
    cfg.model.neck.in_channels = channels


def _levels(cfg: Config) -> tuple[int, ...]:
    """Positions in `STRIDES` of the levels that the backbone of a config returns."""
    backbone = cfg.model.backbone
    if backbone.get('type') == 'TimmBackbone':
        return tuple(STRIDES.index(stride) for stride in backbone.get('strides', STRIDES))
    of_type = next((known.levels for known in KNOWN.values() if known.config['type'] == backbone.get('type')),
                   (0, 1, 2, 3))
    indices = backbone.get('out_indices', of_type)
    return tuple(of_type.index(index) for index in indices) if set(indices) <= set(of_type) else (0, 1, 2, 3)


def _known(name: str, levels: tuple[int, ...]) -> tuple[dict[str, Any], list[int]]:
    known = KNOWN[name]
    config = {**copy.deepcopy(known.config), 'out_indices': tuple(known.levels[level] for level in levels)}
    return config, [known.channels[level] for level in levels]


def _of_timm(name: str, levels: tuple[int, ...]) -> tuple[dict[str, Any], list[int]]:
    model = name.removeprefix(PREFIX)
    strides = [STRIDES[level] for level in levels]
    try:
        timm = import_timm()
    except UserError as error:
        if name.startswith(PREFIX):
            raise
        raise UserError(f'there is no backbone {name!r}{did_you_mean(name, KNOWN)} among {", ".join(KNOWN)}; for those '
                        f'of timm: {error}') from error
    if not timm.is_model(model):
        raise UserError(f'there is no backbone {name!r}{did_you_mean(model, [*KNOWN, *timm.list_models()])}: neither '
                        f'among {", ".join(KNOWN)} nor in timm {timm.__version__}')
    return dict(type='TimmBackbone', model=model, strides=strides,
                init_cfg=dict(type='Pretrained', checkpoint=OWN_WEIGHTS)), timm_channels(model, strides)
