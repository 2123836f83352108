"""sparse-rcnn test: computes the COCO metric of a checkpoint."""
from __future__ import annotations

import argparse
from collections.abc import Sequence

from sparse_rcnn_mm.acceleration.prediction import PRECISIONS
from sparse_rcnn_mm.engine import add_common_arguments, evaluate

from .parser import Parser
from .processes import add_gpus_argument, in_processes
from .tta_arguments import add_tta_arguments


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = Parser(description='Test a detector.')
    parser.add_argument('config', nargs='?', help='config file, or the name of a published config '
                        '(default: the config in the checkpoint)')
    parser.add_argument('checkpoint', help='checkpoint file, or the name of published weights')
    parser.add_argument('--data', metavar='FOLDER', help='test on your own data: the test split, else the validation '
                        'split, else all; the classes are those in the checkpoint')
    add_common_arguments(parser)
    add_gpus_argument(parser)
    parser.add_argument('--out', metavar='FILE.pkl', help='write all predictions to this pickle file')
    parser.add_argument('--show-dir', metavar='FOLDER', help='draw the detections of every image into this folder')
    parser.add_argument('--voc-metric', action='store_true', help="compute Pascal VOC's metric, too: average precision "
                        'at an IoU of 0.5, by area and by 11 points')
    parser.add_argument('--precision', choices=sorted(PRECISIONS), default='fp32',
                        help='precision of convolutions and matrix products (default: %(default)s)')
    parser.add_argument('--compile', action='store_true',
                        help='use torch.compile: the first images take minutes, the others are faster')
    add_tta_arguments(parser)
    return parser.parse_intermixed_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return the exit status."""
    args = parse_args(argv)
    in_processes('test', argv, args)
    options = vars(args)
    del options['gpus']
    evaluate(**options)
    return 0
