"""sparse-rcnn infer: detects objects in images, folders, videos or a webcam."""
from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sparse_rcnn_mm.datasets.image_files import digest
from sparse_rcnn_mm.errors import UserError, did_you_mean
from sparse_rcnn_mm.inference import ExportedDetector, is_exported
from sparse_rcnn_mm.inference.detections import ImageDetector
from sparse_rcnn_mm.inference.exported import check_not_exported
from sparse_rcnn_mm.inference.formats import FORMATS
from sparse_rcnn_mm.inference.run import process
from sparse_rcnn_mm.inference.sources import find_sources
from sparse_rcnn_mm.late_imports import quick_start
from sparse_rcnn_mm.terminal import show

from .parser import Parser, score
from .tta_arguments import add_tta_arguments

# Those of `acceleration.prediction`, which needs PyTorch.
PRECISIONS = ('bf16', 'fp16', 'fp32')


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = Parser(description='Detect objects; write pictures or videos, detections.json (COCO) and '
                    'detections.csv. Exit status 1: some input could not be read.')
    parser.add_argument('inputs', nargs='+', metavar='INPUT',
                        help='image, folder, quoted pattern like "photos/*.jpg", video, or number of a webcam')
    parser.add_argument('--model', required=True, metavar='CHECKPOINT',
                        help='checkpoint file, the name of published weights, or a file of `sparse-rcnn export` '
                        '(.onnx, .xml)')
    parser.add_argument('--config', help='config file, instead of the one in the checkpoint')
    parser.add_argument('--out-dir', type=Path, default=Path('detections'), help='default: %(default)s')
    parser.add_argument('--score-thr', type=score, default=0.3, metavar='SCORE',
                        help='drop detections with lower scores (default: %(default)s; 0 keeps all)')
    parser.add_argument('--classes', nargs='+', metavar='NAME', help='keep only these classes')
    parser.add_argument('--batch-size', type=int, default=1, help='images per batch (default: %(default)s)')
    parser.add_argument('--device', help='cpu, cuda, cuda:1, ... (default: a GPU if there is one)')
    parser.add_argument('--precision', choices=PRECISIONS, default='fp32',
                        help='precision of convolutions and matrix products (default: %(default)s)')
    parser.add_argument('--compile', action='store_true',
                        help='use torch.compile; the first images of each size take minutes')
    add_tta_arguments(parser)
    parser.add_argument('--no-pictures', action='store_true', help='write only the files of --formats')
    parser.add_argument('--formats', nargs='+', choices=sorted(FORMATS), default=['coco', 'csv'],
                        help='files to write (default: coco csv)')
    parser.add_argument('--resume', action='store_true', help='resume an earlier run: skip what it already wrote')
    parser.add_argument('--shard', type=_shard, default=(1, 1), metavar='I/N',
                        help='process only every N-th input, from the I-th on; the last run joins the files')
    return parser.parse_args(argv)


def _shard(text: str) -> tuple[int, int]:
    number, _, total = text.partition('/')
    if not (number.isdecimal() and total.isdecimal() and 1 <= int(number) <= int(total)):
        raise argparse.ArgumentTypeError(f'{text!r} is not I/N with I from 1 to N, such as 2/4')
    return int(number), int(total)


def open_detector(args: argparse.Namespace) -> ImageDetector:
    """Open the checkpoint, or the exported file, which needs no PyTorch."""
    if not is_exported(args.model):
        from sparse_rcnn_mm.inference.detector import Detector
        return Detector.from_checkpoint(args.model, args.config, args.device, precision=args.precision,
                                        compile=args.compile, tta=args.tta)
    check_not_exported(args.model, args.tta)
    if args.config or args.device or args.compile or args.precision != 'fp32':
        raise UserError(f'{args.model} is an exported file, for which there is no --config, --device, --precision or '
                        '--compile')
    return ExportedDetector(args.model)


def made_by(args: argparse.Namespace) -> dict[str, Any]:
    """What detects, and how, by the contents of files. Usual settings are None, as in records that lack them."""
    return {'model': _identity(args.model), 'config': args.config and _identity(args.config), 'tta': args.tta or None,
            'precision': None if args.precision == 'fp32' else args.precision}


def _identity(name: str) -> str:
    """Digests of a file, or of the files in a folder; the name of what is neither."""
    path = Path(name)
    if path.is_dir():
        return ' '.join(f'{file.name} {digest(file)}' for file in sorted(path.iterdir()) if file.is_file())
    return digest(path) or name


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return the exit status."""
    args = parse_args(argv)
    if args.batch_size < 1:
        raise UserError(f'--batch-size {args.batch_size} must be at least 1')
    sources = find_sources(args.inputs, args.out_dir)
    with quick_start():
        detector = open_detector(args)
    unknown = [name for name in args.classes or () if name not in detector.classes]
    if unknown:
        raise UserError(f'--classes {unknown[0]}{did_you_mean(unknown[0], detector.classes)}: '
                        f'the model knows {", ".join(detector.classes)}')
    report = process(detector, sources, args.out_dir, pictures=not args.no_pictures, score_thr=args.score_thr,
                     classes=args.classes, batch_size=args.batch_size, formats=args.formats, resume=args.resume,
                     shard=args.shard, made_by=made_by(args))
    show(report)
    show(f'{report.images} images, {report.detections} detections, {len(report.skipped)} skipped: '
         f'{args.out_dir}' + ('' if args.no_pictures else ', with pictures'))
    return 1 if report.skipped else 0
