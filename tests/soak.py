"""Whether memory and open files stay flat: `python -m tests.soak`.

Trains a small digits model with a validation every 200 iterations, then predicts images of many sizes. Linux only.
"""
from __future__ import annotations

import argparse
import gc
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from mmengine.hooks import Hook

from sparse_rcnn_mm import Detector, train
from sparse_rcnn_mm.datasets.make_digits import make_digits
from sparse_rcnn_mm.registry import HOOKS
from tests.kit import DIGITS_CONFIG

SMALL = {'train_dataloader.dataset.indices': 64, 'val_dataloader.dataset.indices': 8, 'train_cfg.val_interval': 200,
         'model.backbone.base_channels': 8, 'model.neck.in_channels': [16, 32, 64], 'model.roi_head.num_stages': 2,
         'default_hooks.checkpoint.interval': 200, 'custom_hooks': [{'type': 'Watch'}]}


class Footprint(NamedTuple):
    """What this process holds after `done` iterations or images."""

    done: int
    megabytes: float
    files: int

    @classmethod
    def now(cls, done: int) -> Footprint:
        gc.collect()
        pages = int(Path('/proc/self/statm').read_text().split()[1])
        return cls(done, pages * os.sysconf('SC_PAGE_SIZE') / 1e6, len(os.listdir('/proc/self/fd')))


TRAINING: list[Footprint] = []


@HOOKS.register_module()
class Watch(Hook):
    """Adds to `TRAINING` before every validation."""

    def before_val(self, runner: Any) -> None:
        TRAINING.append(Footprint.now(runner.iter))


def train_small(folder: Path, iterations: int) -> Path:
    make_digits(folder / 'digits')
    roots = {f'{split}_dataloader.dataset.data_root': str(folder / 'digits') for split in ('train', 'val', 'test')}
    files = {f'{split}_evaluator.ann_file': str(folder / 'digits/val.json') for split in ('val', 'test')}
    checkpoint = train(DIGITS_CONFIG, work_dir=folder / 'work', cfg_options={
        **SMALL, **roots, **files, 'train_cfg.max_iters': iterations})
    assert checkpoint is not None
    return checkpoint


def predict(checkpoint: Path, images: int) -> list[Footprint]:
    """Predict images of random sizes: a short side of 192 pixels after resizing, and any aspect ratio up to 3."""
    detector, random, found = Detector.from_checkpoint(checkpoint, device='cpu'), np.random.RandomState(0), []
    for done in range(images + 1):
        if done % max(1, images // 10) == 0:
            found.append(Footprint.now(done))
        detector(random.randint(0, 256, (*random.randint(64, 192, 2), 3)).astype(np.uint8))
    return found


def report(title: str, found: Sequence[Footprint]) -> str:
    """A table, and the slope of the second half."""
    half = found[len(found) // 2:]
    slope = np.polyfit([one.done for one in half], [one.megabytes for one in half], 1)[0] * 1000
    heads = f'| {title} | ' + ' | '.join(f'{one.done:,}' for one in found) + ' |'
    return '\n'.join([heads, '|---' * (len(found) + 1) + '|',
                      '| MB | ' + ' | '.join(f'{one.megabytes:.0f}' for one in found) + ' |',
                      '| open files | ' + ' | '.join(f'{one.files}' for one in found) + ' |',
                      '', f'Second half: {slope:+.1f} MB per 1,000 {title}.', ''])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--iterations', type=int, default=2000)
    parser.add_argument('--images', type=int, default=5000)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = train_small(Path(folder), args.iterations)
        images = predict(checkpoint, args.images)
    print(report('iterations', TRAINING), report('images', images), sep='\n')


if __name__ == '__main__':
    main()
