"""Convert a checkpoint of the official Sparse R-CNN (detectron2) for this package, or back.

IN is a .pth file, with or without the `model` wrapper, or a .pkl file. A ResNet alone (torchvision's R-101.pkl) becomes
a file for `model.backbone.init_cfg`. If entries are missing, unknown or of another shape, nothing is written and the
error lists them.
"""
from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from torch import Tensor

from sparse_rcnn_mm.checkpoints import read_checkpoint, state_dict_of
from sparse_rcnn_mm.checkpoints.official import (
    Architecture,
    backbone_from_official,
    check_complete,
    dataset_meta,
    from_official,
    is_backbone,
    to_official,
)
from sparse_rcnn_mm.config_files import find_config
from sparse_rcnn_mm.engine.settings import SettingsAction
from sparse_rcnn_mm.errors import UserError
from sparse_rcnn_mm.terminal import show
from sparse_rcnn_mm.versions import __version__

from .parser import Parser


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('input', metavar='IN', type=Path)
    parser.add_argument('output', metavar='OUT', type=Path)
    parser.add_argument('--to-official', action='store_true', help='IN is a checkpoint of this package or of mmdet')
    parser.add_argument('--classes', nargs='+', metavar='NAME', help="class names (default: COCO's if there are 80)")
    parser.add_argument('--config',
                        help='config with the settings that are not in the weights (default: by depth, proposals)')
    parser.add_argument('--cfg-options', nargs='+', action=SettingsAction, metavar='KEY=VALUE',
                        help='changes to that config, e.g. model.roi_head.bbox_head.num_heads=4')
    return parser.parse_args(argv)


def config_for(architecture: Architecture, args: argparse.Namespace) -> Config:
    """Build the config of the checkpoint: a published config with adapted sizes."""
    backbone = 'r101' if architecture.depth == 101 else 'r50'
    proposals = '_300pro' if architecture.num_proposals == 300 else ''
    cfg = Config.fromfile(find_config(args.config or f'sparse_rcnn_{backbone}{proposals}_3x'))
    architecture.apply_to(cfg)
    cfg.merge_from_dict(args.cfg_options or {})
    return cfg


def name_classes(cfg: Config, classes: tuple[str, ...]) -> None:
    """Set the class names of the config's data sets."""
    for loader in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        if loader in cfg:
            cfg[loader].dataset.metainfo = dict(classes=classes)


def convert_detector(state: dict[str, Tensor], args: argparse.Namespace) -> tuple[dict[str, Any], str]:
    """Return the contents of OUT, and a line that describes it."""
    ours = state if args.to_official else from_official(state)
    architecture = Architecture.of(ours)
    cfg = config_for(architecture, args)
    check_complete(ours, cfg)
    size = (f'ResNet-{architecture.depth}, {architecture.num_proposals} proposals, {architecture.num_classes} classes, '
            f'{architecture.num_stages} stages')
    if args.to_official:
        return dict(model=to_official(state), __author__='sparse_rcnn_mm'), size
    meta = dataset_meta(architecture.num_classes, args.classes)
    if args.classes or architecture.num_classes != 80:
        name_classes(cfg, meta['classes'])
    name = Path(cfg.filename).name
    return dict(
        state_dict=ours,
        meta=dict(cfg=cfg.pretty_text, config_name=name, dataset_meta=meta, converted_from=args.input.name,
                  sparse_rcnn_mm_version=__version__)), f'{size}; config {name}'


def convert(args: argparse.Namespace) -> str:
    """Write OUT, and return a line that describes it."""
    state = state_dict_of(read_checkpoint(args.input))
    if not state:
        raise UserError(f'{args.input} contains no tensors')
    if is_backbone(state):
        if args.to_official:
            raise UserError(f'{args.input} is already an official backbone')
        weights, depth = backbone_from_official(state)
        contents: dict[str, Any] = dict(state_dict=weights, meta=dict(converted_from=args.input.name))
        said = f"ResNet-{depth} for model.backbone.init_cfg = dict(type='Pretrained', checkpoint={str(args.output)!r})"
    else:
        contents, said = convert_detector(state, args)
    args.output.parent.mkdir(parents=True, exist_ok=True)
    torch.save(contents, args.output)
    return said


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return the exit status."""
    args = parse_args(argv)
    init_default_scope('sparse_rcnn_mm')
    show(f'wrote {args.output}: {convert(args)}')
    return 0
