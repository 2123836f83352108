"""sparse-rcnn analyze: a page that shows where a detector is right and wrong."""
from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.dist import is_main_process

from sparse_rcnn_mm.engine import (
    add_common_arguments,
    build_test_dataset,
    dump_predictions,
    run_test,
    testing_config,
)
from sparse_rcnn_mm.evaluation.analysis import Analysis, as_numbers
from sparse_rcnn_mm.evaluation.page import write_page
from sparse_rcnn_mm.evaluation.records import by_image, evaluated_data, read_predictions, write_json
from sparse_rcnn_mm.own_outputs import mark
from sparse_rcnn_mm.terminal import show

from .parser import Parser
from .processes import add_gpus_argument, in_processes


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = Parser(
        description='Test a detector and write one HTML page about its detections: AP by class and box size, '
        'precision-recall curves, kinds of errors, confusion matrix, score calibration, worst images; and the numbers '
        'as JSON beside it.')
    parser.add_argument('checkpoint', help='checkpoint, a file of `sparse-rcnn export` (.onnx, .xml), or the '
                        'name of published weights')
    parser.add_argument('--config', help='config file (default: the config in the checkpoint)')
    parser.add_argument('--data', metavar='FOLDER', help='your own data, as in sparse-rcnn test')
    parser.add_argument('--results', metavar='FILE.pkl', help='use the detections that sparse-rcnn test --out wrote '
                        'instead of testing')
    parser.add_argument('--out-dir', type=Path, metavar='FOLDER', help='folder for analysis.html, analysis.json and '
                        'predictions.pkl (default: analysis, beside the logs)')
    parser.add_argument('--score-thr', type=float, metavar='SCORE', help='count the errors of detections with at '
                        'least this score (default: the score with the best F1)')
    parser.add_argument('--worst', type=int, default=12, metavar='N', help='images to draw (default: %(default)s)')
    add_common_arguments(parser)
    add_gpus_argument(parser)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return the exit status."""
    args = parse_args(argv)
    in_processes('analyze', argv, args)
    cfg = testing_config(args)
    folder = args.out_dir or Path(cfg.work_dir, 'analysis')
    mark(folder)
    if args.results:
        dataset, predictions = build_test_dataset(cfg), read_predictions(args.results)
    else:
        dataset, predictions = test_and_keep(cfg, folder / 'predictions.pkl')
    if is_main_process():
        write_analysis(dataset, predictions, folder, args)
    return 0


def test_and_keep(cfg: Config, path: Path) -> tuple[BaseDataset, list[dict[str, Any]]]:
    """Run the same test as `sparse-rcnn test`, and save the detections to `path`."""
    dump_predictions(cfg, str(path))
    dataset = run_test(cfg).dataset
    return dataset, read_predictions(path) if is_main_process() else []


def write_analysis(dataset: BaseDataset, predictions: list[dict[str, Any]], folder: Path,
                   args: argparse.Namespace) -> None:
    """Analyze predictions, write the page and the JSON file, and print a summary."""
    analysis = Analysis.of(evaluated_data(dataset, by_image(predictions)), args.score_thr)
    numbers = as_numbers(analysis, args.worst)
    write_page(analysis, numbers, folder / 'analysis.html', f'{Path(args.checkpoint).name} on '
               f'{Path(dataset.ann_file).name}')
    write_json(folder / 'analysis.json', numbers)
    show(f'{summary(numbers)}\n{folder / "analysis.html"}\n{folder / "analysis.json"}')


def summary(numbers: Mapping[str, Any]) -> str:
    """A summary of the errors by kind, for the terminal."""
    values = ', '.join(f'{kind}{name} {numbers[key][name]:.3f}' for key, kind in (('overall', ''), ('masks', 'mask '))
                       if key in numbers for name in ('AP', 'AP50'))
    lines = [f'{values}; detections with a score of {numbers["score_threshold"]:.2f} and more, IoU 0.5:']
    correct = sum(row['correct'] for row in numbers['classes'].values())
    lines.append(f'{"correct":11}{correct:7d} of {numbers["boxes"]} objects')
    for name, row in numbers['errors'].items():
        lines.append(f'{name:11}{row["count"]:7d}   AP50 {row["AP50_if_right"]:+.3f} if they were correct')
    return '\n'.join(lines)
