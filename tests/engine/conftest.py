"""The tools, run as from the command line but in this process, on a small part of the digits."""
from __future__ import annotations

import runpy
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from mmdet.visualization import DetLocalVisualizer
from mmengine.logging import MessageHub, MMLogger
from mmengine.registry import DefaultScope

from sparse_rcnn_mm.make_digits import make_digits

ROOT = Path(__file__).parents[2]
DIGITS_CONFIG = str(ROOT / 'configs/sparse_rcnn_r18_digits.py')


@pytest.fixture(scope='session')
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp('digits')
    make_digits(folder)
    return folder


@pytest.fixture
def small(digits: Path) -> list[str]:
    """Options that make the digits config tiny: 16 images, one stage, narrow layers."""
    return [
        '--cfg-options', 'train_cfg.max_iters=4', 'train_cfg.val_interval=4', 'default_hooks.checkpoint.interval=2',
        'default_hooks.logger.interval=1', 'train_dataloader.batch_size=4', 'train_dataloader.dataset.indices=16',
        'val_dataloader.dataset.indices=4', 'test_dataloader.dataset.indices=4', 'model.backbone.base_channels=8',
        'model.neck.in_channels=[16,32,64]', 'model.roi_head.num_stages=2', 'randomness.seed=0',
        *(f'{split}_dataloader.dataset.data_root={digits}' for split in ('train', 'val', 'test')),
        *(f'{split}_evaluator.ann_file={digits}/val.json' for split in ('val', 'test')),
    ]


@pytest.fixture
def tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """`tool('train', CONFIG, ...)` runs tools/train.py in an empty folder and returns its exit status."""
    monkeypatch.chdir(tmp_path)

    def run(name: str, *arguments: str) -> int:
        for globally_named in (DefaultScope, DetLocalVisualizer, MessageHub, MMLogger):  # as in a new process
            globally_named._instance_dict.clear()
        monkeypatch.setattr(sys, 'argv', [f'{name}.py', *map(str, arguments)])
        try:
            runpy.run_path(str(ROOT / 'tools' / f'{name}.py'), run_name='__main__')
        except SystemExit as stop:
            return int(stop.code or 0)
        return 0

    return run
