"""Make the digits data set of the quick start: 1,000 training and 200 validation images."""
from __future__ import annotations

from collections.abc import Sequence

from sparse_rcnn_mm.datasets.make_digits import make_digits
from sparse_rcnn_mm.terminal import show

from .parser import Parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return the exit status."""
    parser = Parser(description=__doc__)
    parser.add_argument('--out', default='data/digits', help='folder to write to (default: %(default)s)')
    parser.add_argument('--seed', type=int, default=0, help='another seed gives other images (default: %(default)s)')
    args = parser.parse_args(argv)
    made = make_digits(args.out, args.seed)
    show(f'{args.out}: ' + ('1,000 training and 200 validation images made' if made else 'already complete'))
    return 0
