"""Compare exported files with PyTorch, on sizes and batches that the export never saw; the weights are random.

python tools/check_export.py --models digits r50 --out table.md. Files are deleted after use; R50 takes 400 MB.
"""
import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope

from sparse_rcnn_mm.config_files import find_config
from sparse_rcnn_mm.errors import one_sentence
from sparse_rcnn_mm.export import export
from sparse_rcnn_mm.export.proof import Differences, Limits, as_inputs, compare, smooth_image, solid_ones, stack
from sparse_rcnn_mm.inference import Detector
from sparse_rcnn_mm.registry import MODELS
from sparse_rcnn_mm.runtime import Engine
from sparse_rcnn_mm.terminal import show

KINDS = {
    'digits': ('sparse_rcnn_r18_digits', {}),
    'r50': ('sparse_rcnn_r50_3x', {}),
    'r50_300': ('sparse_rcnn_r50_300pro_3x', {}),
    'r101': ('sparse_rcnn_r101_3x', {}),
    'one_class': ('sparse_rcnn_r50_3x', {'model.roi_head.bbox_head.num_classes': 1}),
}
SIZES = ((333, 500), (480, 640), (1333, 800), (800, 1333))
BATCHES = (1, 2, 5)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Compare exported files with PyTorch.')
    parser.add_argument('--models', nargs='+', choices=KINDS, default=list(KINDS))
    parser.add_argument('--engines', nargs='+', choices=('.onnx', '.xml'), default=['.onnx', '.xml'])
    parser.add_argument('--batches', nargs='+', type=int, default=BATCHES)
    parser.add_argument('--out', type=Path, help='also write the table to this file')
    return parser.parse_args()


def random_checkpoint(name: str, path: Path) -> None:
    """Write weights whose scores spread and whose boxes move as little as those of a trained model."""
    config, options = KINDS[name]
    cfg = Config.fromfile(find_config(config))
    cfg.merge_from_dict({'model.backbone.init_cfg': None, **options})
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('sparse_rcnn_mm'):
        model = MODELS.build(cfg.model)
    for stage in model.roi_head.bbox_head:
        torch.nn.init.normal_(stage.fc_cls.bias, std=1.)
        stage.fc_reg.weight.data *= 0.1
    torch.nn.init.uniform_(model.rpn_head.init_proposal_bboxes.weight, 0.2, 0.8)
    classes = tuple(map(str, range(model.roi_head.num_classes)))
    torch.save({'state_dict': model.state_dict(), 'meta': {'cfg': cfg.pretty_text, 'dataset_meta': {
        'classes': classes}}}, path)


def rows_of(detector: Detector, engines: list[Engine], batches: list[int]) -> list[tuple[str, ...]]:
    """For each size and batch: its name, and the differences of each engine."""
    rows = []
    for size in SIZES:
        limits = Limits().for_side(max(size))
        for batch in batches:
            images = [smooth_image(1000 + index, *size) for index in range(batch)]
            wanted = detector.backend(as_inputs(images))
            row = [f'{batch} x {size[0]}x{size[1]}']
            for engine in engines:
                total = Differences()
                found = solid_ones(engine(stack(images), np.array([size] * batch)), [size] * batch)
                for one, other in zip(found, wanted, strict=True):
                    total.add(compare(one, other, limits))
                row.append(f'{total.boxes:.1e} px, {total.scores:.1e}{"" if total.within(limits) else " BEYOND"}')
            rows.append(tuple(row))
    return rows


def table_of(name: str, suffixes: list[str], batches: list[int]) -> str:
    """Export one model, compare it, and return its part of the table."""
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = Path(folder, f'{name}.pth')
        random_checkpoint(name, checkpoint)
        detector = Detector.from_checkpoint(checkpoint, device='cpu', fast=False)
        paths = [checkpoint.with_suffix(suffix) for suffix in suffixes]
        proofs = [str(export(detector, path)) for path in paths]
        rows = rows_of(detector, [Engine(path) for path in paths], batches)
    heads = ' | '.join(suffixes)
    lines = [f'{name}, random weights; verified by the export: {"; ".join(proofs)}', '',
             f'| batch | {heads} |', '|---' * (len(suffixes) + 1) + '|',
             *(f'| {" | ".join(row)} |' for row in rows), '', f'{time.perf_counter() - start:.0f} s', '']
    return '\n'.join(lines)


def main() -> None:
    args = parse_args()
    for name in args.models:
        table = table_of(name, args.engines, list(args.batches))
        show(table)
        if args.out:
            with args.out.open('a') as file:
                file.write(f'{table}\n')


if __name__ == '__main__':
    with one_sentence():
        main()
