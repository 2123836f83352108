"""The learning rate of the configs against their batch."""
from __future__ import annotations

import pytest
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
