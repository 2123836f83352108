"""Export a checkpoint, with a proof: python tools/export.py CHECKPOINT writes CHECKPOINT's name with .onnx."""
from __future__ import annotations

import argparse
from pathlib import Path

from sparse_rcnn_mm.errors import one_sentence
from sparse_rcnn_mm.export import export_onnx
from sparse_rcnn_mm.inference import Detector


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description='Write a detector as a file for engines other than PyTorch, and compare what both find. The file '
        'is kept only if the detections are the same.')
    parser.add_argument('checkpoint', type=Path, help='checkpoint file; it holds its config')
    parser.add_argument('--config', help='config file, instead of the one inside the checkpoint')
    parser.add_argument('--out', type=Path, metavar='FILE', help='default: beside the checkpoint, under its name')
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    detector = Detector.from_checkpoint(args.checkpoint, args.config, device='cpu', fast=False)
    out = args.out or args.checkpoint.with_suffix('.onnx')
    print(f'largest differences from PyTorch: {export_onnx(detector, out)}')
    print(f'{out} ({out.stat().st_size / 2**20:.1f} MiB)')


if __name__ == '__main__':
    with one_sentence():
        main()
