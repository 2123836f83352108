"""sparse-rcnn inspect: checks a data set before training. The exit status is 1 if it has errors."""
from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from sparse_rcnn_mm.config_files import config_names
from sparse_rcnn_mm.engine import load_config
from sparse_rcnn_mm.engine.settings import SettingsAction
from sparse_rcnn_mm.own_data.config import with_masks
from sparse_rcnn_mm.own_data.forms import form_names
from sparse_rcnn_mm.own_data.inspection import inspect_data
from sparse_rcnn_mm.own_data.overview import ModelSettings, overview
from sparse_rcnn_mm.own_data.reading import read_data
from sparse_rcnn_mm.own_data.report import data_of, draw, report
from sparse_rcnn_mm.own_outputs import mark
from sparse_rcnn_mm.terminal import one_line, show

from .parser import Parser

CONFIG = 'sparse_rcnn_r50_finetune'
MOST = 10  # how many findings of each kind are printed


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = Parser(description='Count, check and draw a data set before training on it.')
    parser.add_argument('data', metavar='FOLDER_OR_CONFIG',
                        help=f'a folder with {form_names()}, one of their files, or a config')
    parser.add_argument('--config', default=CONFIG,
                        help='the config to train with (default: %(default)s)')
    parser.add_argument('--cfg-options', nargs='+', action=SettingsAction, default={}, metavar='KEY=VALUE',
                        help='change settings of the config, as in training, e.g. augmentation=mosaic')
    parser.add_argument('--decode', action='store_true',
                        help='decode every image: also finds damage in the middle of files, but takes minutes')
    parser.add_argument('--pictures', type=int, default=12, help='training pictures to draw (default: 12)')
    parser.add_argument('--out', metavar='FOLDER', help='default: work_dirs/inspect_NAME')
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return the exit status."""
    args = parse_args(argv)
    of_config = args.data.endswith('.py') or (args.data in config_names() and not Path(args.data).exists())
    cfg = load_config(argparse.Namespace(config=args.data if of_config else args.config, work_dir=None,
                                         cfg_options=args.cfg_options, launcher='none'))
    raw = data_of(cfg) if of_config else read_data(args.data, with_masks(cfg))
    settings = ModelSettings.of(cfg)
    out = Path(args.out or f'work_dirs/inspect_{Path(args.data).resolve().stem}')
    mark(out)
    head = '\n\n'.join(['\n'.join(map(one_line, [f'{raw.root}: {raw.form}', *raw.notes])), overview(raw, settings)])
    show(head)
    found = inspect_data(raw, settings.num_proposals, args.decode, with_masks(cfg))
    show(f'\n{report(found, MOST)}\n')
    (out / 'inspection.txt').write_text(f'{head}\n\n{report(found)}\n', encoding='utf-8', errors='backslashreplace')
    show(f'the complete list is in {out / "inspection.txt"}')
    if args.pictures > 0:
        draw(raw, cfg, out / 'data', args.pictures).save(out / 'inspection.png')
        show(f'pictures as the model gets them in training: {out / "inspection.png"}')
    return 1 if found.errors else 0
