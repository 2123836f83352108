"""Convert checkpoints of other projects for this package, publish your own, or convert one to the official code.

IN is a .pth, .pkl or .safetensors file, or the name of published weights:
  a Sparse R-CNN of the official code (detectron2), of mmdet's model zoo, or any detector of this package;
  a backbone for model.backbone.init_cfg: a ResNet of torchvision, timm, MoCo, DetCo, detectron2 or OpenMMLab, a
  MobileNetV2 of torchvision or OpenMMLab, and with --backbone any network of timm.
OUT is a .pth or a .safetensors file. --hub FOLDER writes weights, config and model card, which
Detector.from_pretrained reads. If entries are missing, unknown or of another shape, nothing is written and the error
lists them.
"""
from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from torch import Tensor

from sparse_rcnn_mm.backbones.converting import Converted, convert_backbone, convert_timm
from sparse_rcnn_mm.checkpoints import Metadata, building, is_of_mmdet, published_config, read_checkpoint, state_dict_of
from sparse_rcnn_mm.checkpoints.hub import push, write_folder
from sparse_rcnn_mm.checkpoints.keys import from_released_adamixer
from sparse_rcnn_mm.checkpoints.lora import merged
from sparse_rcnn_mm.checkpoints.official import (
    Architecture,
    check_complete,
    dataset_meta,
    from_official,
    is_detector,
    to_official,
)
from sparse_rcnn_mm.checkpoints.safetensors_files import SUFFIX, write_safetensors
from sparse_rcnn_mm.checkpoints.writing import replacing
from sparse_rcnn_mm.config_files import config_from_file
from sparse_rcnn_mm.engine.settings import SettingsAction
from sparse_rcnn_mm.errors import UserError, in_short
from sparse_rcnn_mm.terminal import shell_word, show
from sparse_rcnn_mm.versions import __version__

from .parser import Parser

_SUFFIXES = ('.pth', '.pt', '.pkl', SUFFIX)


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('input', metavar='IN')
    parser.add_argument('output', metavar='OUT', type=Path, nargs='?', help='not needed with --hub')
    parser.add_argument('--to-official', action='store_true', help='IN is a checkpoint of this package or of mmdet')
    parser.add_argument('--classes', nargs='+', metavar='NAME',
                        help="class names (default: those in IN, else COCO's if there are 80)")
    parser.add_argument('--config', help='config with the settings that are not in the weights '
                        '(default: the one in IN, else by depth and proposals)')
    parser.add_argument('--cfg-options', nargs='+', action=SettingsAction, metavar='KEY=VALUE',
                        help='changes to that config, e.g. model.roi_head.bbox_head.num_heads=4')
    parser.add_argument('--backbone', metavar='timm/NAME', help='IN is a checkpoint of this network of timm')
    parser.add_argument('--hub', metavar='FOLDER', type=Path, help='write weights, config and model card to FOLDER')
    parser.add_argument('--push', metavar='USER/NAME', help='upload FOLDER to the Hugging Face Hub, as a private model')
    args = parser.parse_args(argv)
    if args.output is None and args.hub is None:
        parser.error('OUT or --hub FOLDER is required')
    if args.push and args.hub is None:
        parser.error('--push needs --hub FOLDER')
    if args.output is not None:
        _check_output(args.output, args.input)
    if twice := [name for name in args.classes or () if args.classes.count(name) > 1]:
        raise UserError(f'--classes names {twice[0]} twice: give every class its own name')
    return args


def _check_output(path: Path, source: str) -> None:
    if path.suffix not in _SUFFIXES:
        raise UserError(f'OUT must end in {" or ".join(_SUFFIXES)}, not in {path.suffix or path.name!r}')
    if path.is_dir():
        raise UserError(f'{path} is a folder: name a file, or use --hub FOLDER')
    if path.resolve() == Path(source).resolve():
        raise UserError(f'{path} is IN, which has more in it than OUT gets: name another file')


def config_for(architecture: Architecture, args: argparse.Namespace) -> Config:
    """Build the config of the checkpoint: a published config with adapted sizes."""
    backbone = 'r101' if architecture.depth == 101 else 'r50'
    proposals = '_300pro' if architecture.num_proposals == 300 else ''
    cfg = config_from_file(args.config or f'sparse_rcnn_{backbone}{proposals}_3x')
    architecture.apply_to(cfg)
    cfg.merge_from_dict(args.cfg_options or {})
    return cfg


def name_classes(cfg: Config, classes: tuple[str, ...]) -> None:
    """Set the class names of the config's data sets."""
    for loader in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        if loader in cfg:
            cfg[loader].dataset.metainfo = dict(classes=classes)


def convert_detector(state: dict[str, Tensor], found: Metadata,
                     args: argparse.Namespace) -> tuple[dict[str, Any], str]:
    """Return the contents of OUT for a Sparse R-CNN without a config of ours, and a line that describes it."""
    ours = state if 'rpn_head.init_proposal_bboxes.weight' in state else from_official(state)
    architecture = Architecture.of(ours)
    cfg = config_for(architecture, args)
    check_complete(ours, cfg)
    size = (f'ResNet-{architecture.depth}, {architecture.num_proposals} proposals, {architecture.num_classes} classes, '
            f'{architecture.num_stages} stages')
    if args.to_official:
        return dict(model=to_official(state), __author__='sparse_rcnn_mm'), size
    meta = dataset_meta(architecture.num_classes, args.classes or found.classes)
    if args.classes or found.classes or architecture.num_classes != 80:
        name_classes(cfg, meta['classes'])
    name = Path(cfg.filename).name
    return dict(state_dict=ours, meta=dict(cfg=cfg.pretty_text, config_name=name, dataset_meta=meta, **made_from(args))
                ), f'{size}; config {name}'


def repack(state: dict[str, Tensor], checkpoint: dict[str, Any], found: Metadata,
           args: argparse.Namespace) -> tuple[dict[str, Any], str]:
    """Return the contents of OUT for a detector with a config of this package, and a line that describes it."""
    model = found.config().model()
    with building(args.input):
        number: Any = cast(Any, check_complete(state, Config(dict(model=model)))).roi_head.num_classes
    meta = {**checkpoint['meta'], **made_from(args)}
    if args.classes:
        if len(args.classes) != number:
            raise UserError(f'{len(args.classes)} class names were given, but the checkpoint has {number} classes')
        meta['dataset_meta'] = {**meta.get('dataset_meta', {}), 'classes': tuple(args.classes)}
    return dict(state_dict=state, meta=meta), f'{model["type"]} with the config in {args.input}'


def made_from(args: argparse.Namespace) -> dict[str, str]:
    """The part of the metadata that says where a file came from."""
    return dict(converted_from=Path(args.input).name, sparse_rcnn_mm_version=__version__)


def convert(args: argparse.Namespace) -> str:
    """Write OUT or the folder, and return a line that describes it."""
    if args.backbone:
        return save_backbone(convert_timm(args.input, args.backbone), args)
    checkpoint = read_checkpoint(args.input)
    state = merged(state_dict_of(checkpoint))
    if not state:
        raise UserError(f'{args.input} contains no tensors')
    if not is_detector(state):
        return save_backbone(convert_backbone(state), args)
    found = Metadata.of(checkpoint, args.input)
    own = isinstance(found.config_text, str) and not is_of_mmdet(found.config().values)
    if own and not (args.to_official or args.config or args.cfg_options):
        contents, said = repack(from_released_adamixer(state), checkpoint, found, args)
    else:
        args.config = args.config or published_config(args.input)
        contents, said = convert_detector(state, found, args)
    if args.output is not None:
        save(contents, args.output)
        said = f'wrote {args.output}: {said}'
    if args.hub is not None:
        said = publish(contents, said, args)
    return said


def save(contents: dict[str, Any], path: Path) -> None:
    """Write a checkpoint in the format that the suffix of its file tells."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == SUFFIX:
            write_safetensors(state_dict_of(contents), contents.get('meta', {}), path)
        else:
            with replacing(path) as unfinished:
                torch.save(contents, unfinished)
    except (OSError, RuntimeError) as error:  # torch reports a failed write as RuntimeError
        raise UserError(f'{path} cannot be written: {in_short(error)}') from error


def publish(contents: dict[str, Any], said: str, args: argparse.Namespace) -> str:
    """Write the folder of a published model, upload it if asked to, and return lines that describe it."""
    if args.to_official:
        raise UserError('--hub writes models of this package: leave out --to-official')
    fresh = write_folder(args.hub, contents['state_dict'], contents['meta'], args.input)
    lines = [said, f'wrote {args.hub}: weights, config{" and model card" if fresh else "; its README.md was kept"}']
    if args.push:
        lines.append(f'uploaded to {push(args.hub, args.push)}')
    return '\n'.join(lines)


def save_backbone(found: Converted, args: argparse.Namespace) -> str:
    """Write a file for `init_cfg`, and return lines that describe it."""
    if args.to_official or args.hub is not None:
        raise UserError(f'{args.input} is a backbone: {"--to-official" if args.to_official else "--hub"} is for '
                        'detectors')
    save(dict(state_dict=found.state, meta=dict(backbone=found.name, **made_from(args))), args.output)
    lines = [f'wrote {args.output}: {found.name}, for --cfg-options backbone={shell_word(found.name, "NAME")} '
             f'model.backbone.init_cfg.checkpoint={shell_word(args.output, "FILE")}']
    if found.left_out:
        number = len(found.left_out)
        lines.append(f'left out {number} {"entry" if number == 1 else "entries"} outside the backbone: '
                     f'{"; ".join(found.left_out[:10])}{"; ..." if len(found.left_out) > 10 else ""}')
    return '\n'.join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return the exit status."""
    args = parse_args(argv)
    init_default_scope('sparse_rcnn_mm')
    show(convert(args))
    return 0
