"""sparse-rcnn compare curves: the curves of several trainings in one picture."""
from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from sparse_rcnn_mm.errors import UserError
from sparse_rcnn_mm.evaluation.comparison.curves import best_lines, draw_curves, read_histories
from sparse_rcnn_mm.terminal import show

from .parser import Parser


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = Parser(description='Draw the losses, the AP and the learning rate of several trainings in one picture, '
                    'from their logs.')
    parser.add_argument('work_dirs', nargs='+', metavar='WORK_DIR', help='folder of a training')
    parser.add_argument('--out', type=Path, default=Path('curves.png'), metavar='FILE',
                        help='the picture: .png, .svg or .pdf (default: %(default)s)')
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return the exit status."""
    args = parse_args(argv)
    if args.out.suffix not in ('.png', '.svg', '.pdf'):
        raise UserError(f'--out {args.out}: the name of the picture ends with .png, .svg or .pdf')
    histories = read_histories(args.work_dirs)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    draw_curves(histories).savefig(args.out, dpi=100)
    show('\n'.join([*best_lines(histories), str(args.out)]))
    return 0
