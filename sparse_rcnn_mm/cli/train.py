"""sparse-rcnn train: trains a detector."""
from __future__ import annotations

import argparse
from collections.abc import Sequence

from sparse_rcnn_mm.engine import TRACKERS, add_common_arguments, train
from sparse_rcnn_mm.own_data.forms import form_names

from .parser import Parser
from .processes import add_gpus_argument, in_processes


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = Parser(description='Train a detector.')
    parser.add_argument('config', help='config file, or the name of a published config, e.g. sparse_rcnn_r50_3x')
    parser.add_argument('--data', metavar='FOLDER', help=f'train on your own data: a folder with {form_names()}, or '
                        'one of their files')
    parser.add_argument('--load-from', metavar='CHECKPOINT', help='start from the weights of CHECKPOINT: '
                        'a file, an address, or the name of published weights')
    parser.add_argument('--load-partial', action='store_true',
                        help='skip the weights that do not fit, e.g. the classifiers of other classes')
    add_common_arguments(parser)
    add_gpus_argument(parser)
    parser.add_argument('--resume', nargs='?', const='auto', metavar='CHECKPOINT',
                        help='resume from CHECKPOINT, or from the last one in the work dir')
    parser.add_argument('--amp', action='store_true', help='mixed precision: float16 on a GPU, bfloat16 on a CPU')
    parser.add_argument('--auto-scale-lr', action='store_true',
                        help='scale the learning rate by the total batch size over auto_scale_lr.base_batch_size')
    parser.add_argument('--log-to', choices=TRACKERS,
                        help='also send the curves there (default: TensorBoard, if it is installed)')
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return the exit status."""
    args = parse_args(argv)
    in_processes('train', argv, args)
    options = vars(args)
    del options['gpus']
    train(**options)
    return 0
