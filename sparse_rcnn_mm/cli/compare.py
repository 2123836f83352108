"""sparse-rcnn compare: two detectors on the same images, on one page."""
from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sparse_rcnn_mm.errors import UserError
from sparse_rcnn_mm.evaluation.comparison.agreement import SharedClasses
from sparse_rcnn_mm.evaluation.comparison.comparison import SCORE_THR, Comparison
from sparse_rcnn_mm.evaluation.comparison.numbers import as_numbers
from sparse_rcnn_mm.evaluation.comparison.page import not_compared, summary_rows, write_page
from sparse_rcnn_mm.evaluation.comparison.side import Side
from sparse_rcnn_mm.evaluation.comparison.subject import Subject
from sparse_rcnn_mm.evaluation.records import write_json
from sparse_rcnn_mm.own_outputs import mark
from sparse_rcnn_mm.terminal import show

from .parser import Parser


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = Parser(
        description='Run two detectors on the same images and write one HTML page: pictures side by side, the images '
        'with the most disagreements first; AP by class and by size if there are annotations; speed and size; and the '
        'numbers as JSON beside it.')
    parser.add_argument('a', metavar='A', help='checkpoint, a file of `sparse-rcnn export` (.onnx, .xml), or the name '
                        'of published weights')
    parser.add_argument('b', metavar='B', help='the other one')
    parser.add_argument('inputs', nargs='+', metavar='IMAGES_OR_DATA', help='a folder or annotation file of data as in '
                        'sparse-rcnn test --data; or images, folders and quoted patterns')
    parser.add_argument('--config-a', metavar='FILE', help='config of A (default: the config in the checkpoint)')
    parser.add_argument('--config-b', metavar='FILE', help='config of B')
    parser.add_argument('--out-dir', type=Path, default=Path('comparison'), metavar='FOLDER',
                        help='folder for comparison.html and comparison.json (default: %(default)s)')
    parser.add_argument('--score-thr', type=float, nargs='+', metavar='SCORE', help='compare detections with at least '
                        'this score; two numbers are for A and B (default: the score with the best F1 of each; without '
                        f'annotations {SCORE_THR})')
    parser.add_argument('--pictures', type=int, default=24, metavar='N', help='images to draw (default: %(default)s)')
    parser.add_argument('--device', help='cpu, cuda, cuda:1, ... (default: a GPU if there is one)')
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return the exit status."""
    args = parse_args(argv)
    thresholds = args.score_thr or [None]
    if len(thresholds) > 2:
        raise UserError(f'--score-thr takes one number, or one for A and one for B, not {len(thresholds)}')
    sides = (_opened(args, 'a'), _opened(args, 'b'))
    classes = SharedClasses.of(sides[0].detector.classes, sides[1].detector.classes)
    subject = Subject.find(args.inputs, classes.names, [side.held_out for side in sides], args.out_dir,
                           any(side.masks for side in sides))
    comparison = Comparison.run(sides, classes, subject, (thresholds[0], thresholds[-1]))
    numbers = as_numbers(comparison)
    mark(args.out_dir)
    write_page(comparison, numbers, args.out_dir / 'comparison.html', args.pictures)
    write_json(args.out_dir / 'comparison.json', numbers)
    show(f'{summary(numbers)}\n{args.out_dir / "comparison.html"}\n{args.out_dir / "comparison.json"}')
    return 0


def _opened(args: argparse.Namespace, letter: str) -> Side:
    try:
        return Side.open(getattr(args, letter), getattr(args, f'config_{letter}'), args.device)
    except UserError as error:  # other commands have one model, and the option --config
        raise UserError(str(error).replace('--config FILE', f'--config-{letter} FILE')) from error


def summary(numbers: Mapping[str, Any]) -> str:
    """The table of both models and the agreement, for the terminal."""
    rows = [('', 'A', 'B'), *summary_rows(numbers)]
    lines = [f'{title:20}{a:>12}{b:>12}' for title, a, b in rows]
    counts = {kind: row['count'] for kind, row in numbers['agreement'].items()}
    lines.append(f'found by both {counts["both"]}, only by A {counts["only A"]}, only by B {counts["only B"]}, '
                 f'as another class {counts["other class"]}; {numbers["images"]} images')
    return '\n'.join([*lines, *not_compared(numbers)])
