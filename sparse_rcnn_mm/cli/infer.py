"""sparse-rcnn infer: detect objects in images, folders, videos or a webcam."""
from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from sparse_rcnn_mm.acceleration.prediction import PRECISIONS
from sparse_rcnn_mm.errors import UserError, did_you_mean
from sparse_rcnn_mm.inference import Detector, exported_detector, is_exported
from sparse_rcnn_mm.inference.formats import FORMATS
from sparse_rcnn_mm.inference.run import process
from sparse_rcnn_mm.inference.sources import find_sources
from sparse_rcnn_mm.inference.tta import check_not_exported

from .tta_arguments import add_tta_arguments


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Detect objects; write pictures or videos, detections.json (COCO) and '
                                     'detections.csv. Exit status 1: some input could not be read.')
    parser.add_argument('inputs', nargs='+', metavar='INPUT',
                        help='image, folder, quoted pattern like "photos/*.jpg", video, or number of a webcam')
    parser.add_argument('--model', required=True, metavar='CHECKPOINT',
                        help='checkpoint file, which holds its config, the name of published weights, or a file of '
                        '`sparse-rcnn export` (.onnx, .xml)')
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
    add_tta_arguments(parser)
    parser.add_argument('--no-pictures', action='store_true', help='write the files of --formats only')
    parser.add_argument('--formats', nargs='+', choices=sorted(FORMATS), default=['coco', 'csv'],
                        help='files to write (default: coco csv)')
    parser.add_argument('--resume', action='store_true', help='go on with an earlier run: skip what it wrote')
    parser.add_argument('--shard', type=_shard, default=(1, 1), metavar='I/N',
                        help='do every N-th input only, from the I-th on; the run that ends last joins the files')
    return parser.parse_args(argv)


def _shard(text: str) -> tuple[int, int]:
    number, _, total = text.partition('/')
    if not (number.isdecimal() and total.isdecimal() and 1 <= int(number) <= int(total)):
        raise argparse.ArgumentTypeError(f'{text!r} is not I/N with I from 1 to N, such as 2/4')
    return int(number), int(total)


def open_detector(args: argparse.Namespace) -> Detector:
    """Of the checkpoint or the exported file."""
    if not is_exported(args.model):
        return Detector.from_checkpoint(args.model, args.config, args.device, precision=args.precision,
                                        compile=args.compile, tta=args.tta)
    check_not_exported(args.model, args.tta)
    if args.config or args.device or args.compile or args.precision != 'fp32':
        raise UserError(f'{args.model} is an exported file, for which there is no --config, --device, --precision or '
                        '--compile')
    return exported_detector(args.model)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the tool; returns the exit status."""
    args = parse_args(argv)
    if args.batch_size < 1:
        raise UserError(f'--batch-size {args.batch_size} must be at least 1')
    sources = find_sources(args.inputs, args.out_dir)
    detector = open_detector(args)
    unknown = [name for name in args.classes or () if name not in detector.classes]
    if unknown:
        raise UserError(f'--classes {unknown[0]}{did_you_mean(unknown[0], detector.classes)}: '
                        f'the model knows {", ".join(detector.classes)}')
    report = process(detector, sources, args.out_dir, pictures=not args.no_pictures, score_thr=args.score_thr,
                     classes=args.classes, batch_size=args.batch_size, formats=args.formats, resume=args.resume,
                     shard=args.shard)
    print(report)
    print(f'{report.images} images, {report.detections} detections, {len(report.skipped)} skipped: '
          f'{args.out_dir}' + ('' if args.no_pictures else ', with pictures'))
    return 1 if report.skipped else 0
