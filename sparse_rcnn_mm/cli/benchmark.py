"""sparse-rcnn benchmark: time, work and memory of a detector, part by part."""
from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from torch import Tensor

from sparse_rcnn_mm.acceleration.prediction import PRECISIONS
from sparse_rcnn_mm.benchmark import report
from sparse_rcnn_mm.benchmark.engines import compare_engines, engines_table
from sparse_rcnn_mm.benchmark.loader import loader_table, seconds_by_transform
from sparse_rcnn_mm.benchmark.measure import Result, Workload, measure
from sparse_rcnn_mm.benchmark.mmdet_twin import require_compiled_ops
from sparse_rcnn_mm.benchmark.workload import build_model
from sparse_rcnn_mm.checkpoints import load_checkpoint
from sparse_rcnn_mm.engine import add_common_arguments, load_config
from sparse_rcnn_mm.errors import UserError
from sparse_rcnn_mm.inference import is_exported
from sparse_rcnn_mm.own_data.config import set_training_data
from sparse_rcnn_mm.terminal import show

from .parser import Parser

SWEEPS: dict[str, list[int]] = {
    'proposals': [50, 100, 200, 300, 500, 1000], 'stages': [1, 2, 3, 4, 5, 6], 'size': [320, 480, 640, 800],
    'batch': [1, 2, 4, 8], 'gts': [1, 10, 50, 100, 200, 500]}


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = Parser(description='Measure a detector.')
    parser.add_argument('config', help='config file, the name of a published config, or a file of `sparse-rcnn export`')
    parser.add_argument('checkpoint', nargs='?', help='checkpoint (default: random weights, and proposals spread over '
                        'the image), or a second exported file')
    parser.add_argument('--size', nargs=2, type=int, metavar=('H', 'W'), help='default: 800 1216, with --train 640 960')
    parser.add_argument('--batch', type=int, help='images per batch (default: 1, with --train 2)')
    parser.add_argument('--gts', type=int, default=7, help='ground truths per image (default: 7)')
    parser.add_argument('--precision', choices=PRECISIONS, default='fp32')
    parser.add_argument('--compile', action='store_true', help='use torch.compile; only for prediction')
    parser.add_argument('--train', action='store_true', help='measure a training step instead of prediction')
    parser.add_argument('--against', metavar='mmdet|CHECKPOINT', help="also measure mmdet's own detector with the same "
                        'weights; for an exported file, the checkpoint that it was exported from')
    parser.add_argument('--against-precision', choices=PRECISIONS, default='fp32')
    parser.add_argument('--sweep', choices=SWEEPS, help='measure with several values of one quantity')
    parser.add_argument('--values', nargs='+', type=int, help='the values for --sweep')
    parser.add_argument('--loader', type=int, metavar='N', help='time the training pipeline on N images instead of the '
                        'model')
    parser.add_argument('--data', metavar='FOLDER', help='your own data, for --loader; see sparse-rcnn train')
    parser.add_argument('--repeats', type=int, default=5)
    parser.add_argument('--threads', type=int, help='number of CPU threads')
    parser.add_argument('--clock', choices=['wall', 'cpu'], default='wall', help='cpu: CPU time of the process; '
                        'with --threads 1 it is accurate even on a busy machine')
    add_common_arguments(parser)
    return parser.parse_args(argv)


def workload(args: argparse.Namespace) -> Workload:
    """Make the workload from the command line, and check it."""
    if args.train and args.compile:
        raise UserError('--compile is only for prediction: remove --train')
    size = args.size or ((640, 960) if args.train else (800, 1216))
    if min(size) < 64 or any(side % 32 for side in size):
        raise UserError(f'--size {size[0]} {size[1]}: both must be multiples of 32, and at least 64')
    return Workload(size=tuple(size), batch=args.batch or (2 if args.train else 1), precision=args.precision,
                    compile=args.compile, train=args.train, against=args.against,
                    against_precision=args.against_precision, num_gts=args.gts, repeats=args.repeats,
                    device='cuda' if torch.cuda.is_available() else 'cpu', cpu_time=args.clock == 'cpu')


def vary(cfg: Config, work: Workload, quantity: str, value: int) -> tuple[Config, Workload]:
    """Return config and workload with one quantity changed. `size` keeps the aspect ratio of the image."""
    options: dict[str, Any] = {
        'proposals': {'model.rpn_head.num_proposals': value}, 'stages': {'model.roi_head.num_stages': value}}
    changes: dict[str, dict[str, Any]] = {
        'size': {'size': (value, round(value * work.size[1] / work.size[0] / 32) * 32)},
        'batch': {'batch': value}, 'gts': {'num_gts': value}}
    cfg = Config(cfg.to_dict())
    cfg.merge_from_dict(options.get(quantity, {}))
    return cfg, replace(work, **changes.get(quantity, {}))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return the exit status."""
    args = parse_args(argv)
    if is_exported(args.config):
        show(time_exported(args))
        return 0
    if args.against not in (None, 'mmdet'):
        raise UserError(f"--against {args.against}: a config is compared with 'mmdet', and only an exported file with "
                        'a checkpoint')
    work = workload(args)
    cfg = load_config(args)
    if args.data and not args.loader:
        raise UserError('--data is only for --loader: the model is measured on generated images')
    if args.threads:
        torch.set_num_threads(args.threads)
    show(time_loader(cfg, args) if args.loader else time_model(cfg, work, args))
    return 0


def time_exported(args: argparse.Namespace) -> str:
    """Measure exported files against their checkpoint, and return the table."""
    if args.against is None or is_exported(args.against):
        raise UserError(f'{args.config} is an exported file: name its checkpoint with --against CHECKPOINT')
    if args.train or args.compile or args.sweep or args.loader or args.precision != 'fp32' or args.clock != 'wall':
        raise UserError(f'{args.config} is an exported file, for which there are only --against, --size, --batch, '
                        '--repeats and --threads')
    models = [args.against, args.config, *([args.checkpoint] if args.checkpoint else [])]
    size, batch = tuple(args.size) if args.size else None, args.batch or 1
    rows = compare_engines(models, size, batch, args.repeats, args.threads or torch.get_num_threads())
    return engines_table(rows, size, batch)


def time_loader(cfg: Config, args: argparse.Namespace) -> str:
    """Time the training pipeline, and return the table."""
    if args.data:
        set_training_data(cfg, args.data)
    return loader_table(seconds_by_transform(cfg, args.loader))


def time_model(cfg: Config, work: Workload, args: argparse.Namespace) -> str:
    """Measure the model, once or in a sweep. Write tables and pictures, and return the table."""
    if args.against:
        require_compiled_ops(work.against_precision, work.device)
    folder = Path(cfg.work_dir, 'benchmark')
    if args.sweep:
        results = sweep(cfg, work, args.sweep, args.values or SWEEPS[args.sweep])
        name, text = f'{args.sweep}{"_train" if args.train else ""}', report.sweep_table(args.sweep, results)
        report.write(folder, name, text, [result for _, result in results])
        report.draw_sweep(folder / f'{name}.png', args.sweep, results)
    else:
        result = measure(cfg, work, weights(cfg, args.checkpoint) if args.checkpoint else None)
        name, text = 'train' if args.train else 'predict', report.table(result)
        report.write(folder, name, text, [result])
        if result.part_seconds:
            report.draw_parts(folder / f'{name}.png', result)
    return f'{text}\n\nwritten to {folder}/{name}.*'


def weights(cfg: Config, checkpoint: str) -> dict[str, Tensor]:
    """Read the weights of a checkpoint, and check that all of them fit the model of a config."""
    model = build_model(cfg)
    load_checkpoint(model, checkpoint)
    return model.state_dict()


def sweep(cfg: Config, work: Workload, quantity: str, values: Sequence[int]) -> list[tuple[int, Result]]:
    """Measure at each value of a quantity."""
    results: list[tuple[int, Result]] = []
    for value in values:
        results.append((value, measure(*vary(cfg, work, quantity, value))))
        show(f'{quantity} {value}: {results[-1][1].seconds.text()} s')
    return results
