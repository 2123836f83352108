"""Detect objects in images, folders, videos or a webcam: python tools/infer.py INPUT... --model CHECKPOINT."""
from __future__ import annotations

import argparse
import sys
from pathlib import Path

from sparse_rcnn_mm.acceleration.prediction import PRECISIONS
from sparse_rcnn_mm.errors import UserError, one_sentence
from sparse_rcnn_mm.inference import Detector, exported_detector, is_exported
from sparse_rcnn_mm.inference.run import process
from sparse_rcnn_mm.inference.sources import find_sources


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Detect objects; write pictures or videos, detections.json (COCO) and '
                                     'detections.csv. Exit status 1: some input could not be read.')
    parser.add_argument('inputs', nargs='+', metavar='INPUT',
                        help='image, folder, quoted pattern like "photos/*.jpg", video, or number of a webcam')
    parser.add_argument('--model', required=True, metavar='FILE',
                        help='checkpoint, which holds its config, or a file of tools/export.py (.onnx, .xml)')
    parser.add_argument('--config', help='config file, instead of the one inside the checkpoint')
    parser.add_argument('--out-dir', type=Path, default=Path('detections'), help='default: %(default)s')
    parser.add_argument('--score-thr', type=float, default=0.3, metavar='SCORE',
                        help='leave out detections below, everywhere (default: %(default)s; 0 keeps all)')
    parser.add_argument('--classes', nargs='+', metavar='NAME', help='keep these classes only')
    parser.add_argument('--batch-size', type=int, default=1, help='images at a time (default: %(default)s)')
    parser.add_argument('--device', help='cpu, cuda, cuda:1, ... (default: a GPU if there is one)')
    parser.add_argument('--precision', choices=sorted(PRECISIONS), default='fp32',
                        help='of convolutions and matrix products (default: %(default)s)')
    parser.add_argument('--compile', action='store_true',
                        help='compile the network; the first images of each size take minutes')
    parser.add_argument('--no-pictures', action='store_true', help='write detections.json and detections.csv only')
    return parser.parse_args(argv)


def open_detector(args: argparse.Namespace) -> Detector:
    """Of the checkpoint or the exported file."""
    if not is_exported(args.model):
        return Detector.from_checkpoint(args.model, args.config, args.device, precision=args.precision,
                                        compile=args.compile)
    if args.config or args.device or args.compile or args.precision != 'fp32':
        raise UserError(f'{args.model} is an exported file, for which there is no --config, --device, --precision or '
                        '--compile')
    return exported_detector(args.model)


def main(argv: list[str] | None = None) -> int:
    """Run the tool; returns the exit status."""
    args = parse_args(argv)
    if args.batch_size < 1:
        raise UserError(f'--batch-size {args.batch_size} must be at least 1')
    sources = find_sources(args.inputs, args.out_dir)
    detector = open_detector(args)
    unknown = [name for name in args.classes or () if name not in detector.classes]
    if unknown:
        raise UserError(f'--classes {unknown[0]}: the model knows {", ".join(detector.classes)}')
    report = process(detector, sources, args.out_dir, pictures=not args.no_pictures, score_thr=args.score_thr,
                     classes=args.classes, batch_size=args.batch_size)
    print(report)
    print(f'{report.images} images, {report.detections} detections, {len(report.skipped)} skipped: '
          f'{args.out_dir / "detections.json"}, detections.csv' + ('' if args.no_pictures else ' and pictures'))
    return 1 if report.skipped else 0


if __name__ == '__main__':
    with one_sentence():
        sys.exit(main())
