"""The learning rate of the configs against their batch."""
from __future__ import annotations

from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from sparse_rcnn_mm.config_files import find_config
from sparse_rcnn_mm.diagnosis.schedule import measure_learning_rate
from sparse_rcnn_mm.engine import accumulate


def test_one_process_of_the_official_schedule() -> None:
    found = measure_learning_rate(Config.fromfile(find_config('sparse_rcnn_r50_3x')), 1000)
    assert (found.lr, found.images, found.base_images, found.optimizer) == (2.5e-5, 2, 16, 'AdamW')
    assert (found.warmup, found.iterations, found.epochs) == (1001, 270_000, 540)


def test_eight_processes_of_it() -> None:
    found = measure_learning_rate(Config.fromfile(find_config('sparse_rcnn_r50_3x')), 1000, processes=8)
    assert (found.images, found.base_images) == (16, 16)


def test_scaled_by_the_batch() -> None:
    cfg = Config.fromfile(find_config('sparse_rcnn_r50_3x'))
    cfg.auto_scale_lr.enable = True
    found = measure_learning_rate(cfg, 1000)
    assert (found.lr, found.images, found.base_images) == (pytest.approx(2.5e-5 / 8), 2, 2)


def test_accumulated_gradients() -> None:
    cfg = Config.fromfile(find_config('sparse_rcnn_r50_finetune'))
    cfg.launcher = 'none'
    accumulate(cfg)
    found = measure_learning_rate(cfg, 160)
    assert (found.lr, found.images, found.base_images) == (2.5e-5, 16, 16)
    assert (found.warmup, found.iterations, found.epochs) == (100, 4000, 100)


def test_the_digits_are_for_their_own_batch() -> None:
    found = measure_learning_rate(Config.fromfile(find_config('sparse_rcnn_r18_digits')), 1000)
    assert (found.images, found.base_images, found.warmup, found.iterations) == (4, 4, 300, 1500)


def test_the_rate_that_weights_were_trained_with(tmp_path: Path) -> None:
    cfg = Config.fromfile(find_config('sparse_rcnn_r50_3x'))
    assert measure_learning_rate(cfg, 1000).usual == pytest.approx(2.5e-5 / 8)  # of the paper, for the backbone alone
    assert measure_learning_rate(cfg, 1000, 8, 'sparse_rcnn_r50_3x').usual == pytest.approx(2.5e-5)
    path = str(tmp_path / 'x.pth')
    text = "optim_wrapper = dict(optimizer=dict(type='AdamW', lr=0.0004))\ntrain_dataloader = dict(batch_size=4)\n"
    torch.save({'meta': {'cfg': text}, 'state_dict': {}}, path)
    assert measure_learning_rate(cfg, 1000, 1, path).usual == pytest.approx(2e-4)
    torch.save({'meta': {}, 'state_dict': {}}, path)
    assert measure_learning_rate(cfg, 1000, 1, path).usual is None
