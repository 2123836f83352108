"""sparse-rcnn export: exports a checkpoint for other engines, and verifies the result."""
from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

from sparse_rcnn_mm.checkpoints import Metadata, read_checkpoint
from sparse_rcnn_mm.config_files import config_from_file
from sparse_rcnn_mm.engine import dump_predictions, run_test, testing_config
from sparse_rcnn_mm.errors import UserError
from sparse_rcnn_mm.evaluation.analysis import Analysis
from sparse_rcnn_mm.evaluation.records import by_image, evaluated_data, read_predictions
from sparse_rcnn_mm.export import Tracing, export
from sparse_rcnn_mm.export.serving import write_serving
from sparse_rcnn_mm.export.web import write_web_page
from sparse_rcnn_mm.inference import Detector
from sparse_rcnn_mm.terminal import show

from .parser import Parser

SUFFIXES = {'onnx': '.onnx', 'openvino': '.xml', 'pt2': '.pt2'}
# How much AP an exported file may lose compared with the checkpoint.
LOSSES = {'fp32': 0.0001, 'fp16': 0.0005, 'int8': 0.002}


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = Parser(
        description='Export a detector for engines other than PyTorch, and compare the detections. The file is kept '
        'only if the detections are the same or, with fewer bits, if the AP is.')
    parser.add_argument('checkpoint', type=Path, help='checkpoint file, which contains its config')
    parser.add_argument('--config', help='config file, instead of the one in the checkpoint')
    parser.add_argument('--format', choices=sorted(SUFFIXES), default='onnx', help='pt2: compiled by '
                        'AOTInductor for this machine; needs --static (default: %(default)s)')
    parser.add_argument('--out', type=Path, metavar='FILE', help='default: beside the checkpoint, with the same name')
    parser.add_argument('--static', nargs=2, type=int, metavar=('H', 'W'), help='fix the height and width; larger '
                        'images are scaled down to fit (default: any size)')
    parser.add_argument('--batch', type=int, metavar='N', help='fix the number of images per batch (default: any '
                        'number; with --static: 1)')
    parser.add_argument('--web', type=Path, metavar='FOLDER', help='also write a web page that runs the file in the '
                        'browser')
    parser.add_argument('--serving', type=Path, metavar='FOLDER', help='also write a folder for Triton Inference '
                        'Server and OpenVINO Model Server')
    parser.add_argument('--stages', action='store_true', help='also output the boxes after every stage, which the web '
                        'page can show')
    fewer = parser.add_mutually_exclusive_group()
    fewer.add_argument('--fp16', action='store_true', help='weights in half precision')
    fewer.add_argument('--int8', type=Path, metavar='FOLDER', help='convolutions in 8 bits, calibrated on the '
                       'images in this folder')
    parser.add_argument('--check', nargs='?', const='', metavar='FOLDER', help='compare the AP on the test data of '
                        'the config, or on your own data in this folder; needed by --fp16 and --int8')
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return the exit status."""
    args = parse_args(argv)
    precision = 'int8' if args.int8 else 'fp16' if args.fp16 else 'fp32'
    if precision != 'fp32' and args.check is None:
        raise UserError(f'--{precision} changes detections: add --check to compare the AP before and after')
    out = args.out or args.checkpoint.with_suffix(SUFFIXES[args.format])
    if out.suffix != SUFFIXES[args.format]:
        raise UserError(f'--out {out} must end in {SUFFIXES[args.format]} for --format {args.format}')
    if args.serving and args.format == 'pt2':
        raise UserError('--serving is for ONNX and OpenVINO files: leave out --format pt2')
    if args.web and args.format != 'onnx':
        raise UserError(f'--web runs ONNX files: leave out --format {args.format}')
    detector = Detector.from_checkpoint(args.checkpoint, args.config, device='cpu', fast=False)
    config = (config_from_file(args.config).pretty_text if args.config else
              Metadata.of(read_checkpoint(args.checkpoint), args.checkpoint).config_text)

    def accept(path: Path) -> None:
        if args.check is not None:
            compare_ap(args, path, LOSSES[precision])

    tracing = Tracing(args.static, 1 if args.static and args.batch is None else args.batch, args.stages)
    differences = export(detector, out, config, precision, args.int8, accept, tracing)
    show(f'largest differences in float32 from PyTorch: {differences}')
    for path in [out, *([out.with_suffix('.bin')] if out.suffix == '.xml' else [])]:
        show(f'{path} ({path.stat().st_size / 2**20:.1f} MiB)')
    if args.serving:
        show('for model servers: ' + ', '.join(map(str, write_serving(out, args.serving))))
    if args.web:
        write_web_page(out, args.web)
        show(f'{args.web}/index.html: python -m http.server --directory {args.web}')
    return 0


def compare_ap(args: argparse.Namespace, path: Path, loss: float) -> None:
    """Print the AP of the checkpoint and of the file, and their mask AP if they have masks.

    Raises:
        UserError: one of the file's is lower by more than `loss`.
    """
    with tempfile.TemporaryDirectory() as folder:
        torchs, files = (average_precisions(args, model, folder) for model in (args.checkpoint, path))
    for name, after in files.items():  # with --stages the file has no masks
        before = torchs[name]
        show(f'{name} {before:.4f} in PyTorch, {after:.4f} in the exported file ({after - before:+.4f})')
        if not after >= before - loss:
            raise UserError(f'the {name} falls from {before:.4f} to {after:.4f}, by more than {loss}: the exported '
                            'file was not kept')


def average_precisions(args: argparse.Namespace, model: Path, folder: str) -> dict[str, float]:
    """COCO's `AP` and `mask AP` of a checkpoint or an exported file, from 0 to 1. `folder` is for temporary files."""
    cfg = testing_config(argparse.Namespace(checkpoint=str(model), config=args.config, data=args.check or None,
                                            work_dir=folder, cfg_options={'log_level': 'WARNING'}, launcher='none'))
    predictions = f'{folder}/{model.suffix[1:]}.pkl'
    dump_predictions(cfg, predictions)
    dataset = run_test(cfg).dataset
    analysis = Analysis.of(evaluated_data(dataset, by_image(read_predictions(predictions))))
    return {name: ap.overall['AP'] for name, ap in (('AP', analysis.ap), ('mask AP', analysis.mask_ap)) if ap}
