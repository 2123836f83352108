"""Test a detector: python tools/test.py [CONFIG] CHECKPOINT [--data FOLDER] prints the COCO metric."""
from __future__ import annotations

import argparse

from sparse_rcnn_mm.acceleration.prediction import PRECISIONS
from sparse_rcnn_mm.engine import add_common_arguments, dump_predictions, run_test, testing_config
from sparse_rcnn_mm.errors import UserError, one_sentence


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Test a detector.')
    parser.add_argument('config', nargs='?', help='config file; default the config inside the checkpoint')
    parser.add_argument('checkpoint', help='checkpoint, or a file of tools/export.py (.onnx, .xml)')
    parser.add_argument('--data', metavar='FOLDER', help='test on your own data: the test split, else the validation '
                        'split, else all; the classes are those in the checkpoint')
    add_common_arguments(parser)
    parser.add_argument('--out', metavar='FILE.pkl', help='write all predictions to this pickle file')
    parser.add_argument('--show-dir', metavar='FOLDER', help='draw the detections of every image into this folder')
    parser.add_argument('--precision', choices=sorted(PRECISIONS), default='fp32',
                        help='of convolutions and matrix products (default: %(default)s)')
    parser.add_argument('--compile', action='store_true',
                        help='compile the network: the first images take minutes, the others are faster')
    return parser.parse_intermixed_args()


def main() -> None:
    args = parse_args()
    cfg = testing_config(args, precision=args.precision, compile=args.compile)
    if args.show_dir:
        cfg.default_hooks.visualization.update(draw=True, test_out_dir=args.show_dir)
    if args.out:
        if not args.out.endswith(('.pkl', '.pickle')):
            raise UserError(f'--out {args.out} must end in .pkl')
        dump_predictions(cfg, args.out)
    run_test(cfg)


if __name__ == '__main__':
    with one_sentence():
        main()
