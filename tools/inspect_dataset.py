"""Look at a data set before training: python tools/inspect_dataset.py FOLDER_OR_CONFIG; status 1 if it has errors."""
from __future__ import annotations

import argparse
import sys
from pathlib import Path

from mmengine.config import Config
from mmengine.hub import get_config

from sparse_rcnn_mm.errors import UserError, one_sentence
from sparse_rcnn_mm.own_data.forms import form_names
from sparse_rcnn_mm.own_data.inspection import inspect_data
from sparse_rcnn_mm.own_data.overview import ModelSettings, overview
from sparse_rcnn_mm.own_data.reading import read_data
from sparse_rcnn_mm.own_data.report import data_of, draw, report
from sparse_rcnn_mm.own_outputs import mark

CONFIG = 'sparse_rcnn_mm::configs/sparse_rcnn_r50_finetune.py'
MOST = 10  # findings of a kind that are printed


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Count, check and draw a data set before training on it.')
    parser.add_argument('data', metavar='FOLDER_OR_CONFIG',
                        help=f'a folder with {form_names()}, one of their files, or a config (.py)')
    parser.add_argument('--config', help='the config to be trained with; default sparse_rcnn_r50_finetune.py')
    parser.add_argument('--decode', action='store_true',
                        help='decode every image, which finds damage in the middle of files too, but takes minutes')
    parser.add_argument('--pictures', type=int, default=12, help='training pictures to draw; default 12')
    parser.add_argument('--out', metavar='FOLDER', help='default work_dirs/inspect_NAME')
    return parser.parse_args()


def main() -> int:
    args = parse_args()
    config = args.data if args.data.endswith('.py') else args.config
    cfg = _read(config) if config else get_config(CONFIG)
    raw = data_of(cfg) if args.data.endswith('.py') else read_data(args.data)
    settings = ModelSettings.of(cfg)
    out = Path(args.out or f'work_dirs/inspect_{Path(args.data).resolve().stem}')
    mark(out)
    head = '\n\n'.join(['\n'.join([f'{raw.root}: {raw.form}', *raw.notes]), overview(raw, settings)])
    print(head, flush=True)
    found = inspect_data(raw, settings.num_proposals, args.decode)
    print(f'\n{report(found, MOST)}\n', flush=True)
    (out / 'inspection.txt').write_text(f'{head}\n\n{report(found)}\n')
    print(f'the whole list is in {out / "inspection.txt"}')
    if args.pictures > 0:
        draw(raw, cfg, out / 'data', args.pictures).save(out / 'inspection.png')
        print(f'pictures as the model gets them in training: {out / "inspection.png"}')
    return 1 if found.errors else 0


def _read(config: str) -> Config:
    if not Path(config).is_file():
        raise UserError(f'there is no config file {config}')
    return Config.fromfile(config)


if __name__ == '__main__':
    with one_sentence():
        sys.exit(main())
