"""Shared fixtures. The package is imported first: without compiled ops in mmcv, mmdet cannot be imported before it."""
from __future__ import annotations

import copy
import runpy
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.logging import MessageHub, MMLogger
from mmengine.registry import DefaultScope
from PIL import Image

import sparse_rcnn_mm  # noqa: F401
from sparse_rcnn_mm.datasets.make_digits import make_digits
from sparse_rcnn_mm.export import export
from sparse_rcnn_mm.inference import Detector
from sparse_rcnn_mm.registry import MODELS
from tests.kit import CLASSES, CONFIGS, ROOT


def pytest_configure() -> None:
    """Hear the signals that tests send: `pytest &` in a script and `nohup pytest` start with them ignored."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


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
        from mmdet.visualization import DetLocalVisualizer
        for globally_named in (DefaultScope, DetLocalVisualizer, MessageHub, MMLogger):  # as in a new process
            globally_named._instance_dict.clear()
        monkeypatch.setattr(sys, 'argv', [f'{name}.py', *map(str, arguments)])
        try:
            runpy.run_path(str(ROOT / 'tools' / f'{name}.py'), run_name='__main__')
        except SystemExit as stop:
            return int(stop.code or 0)
        return 0

    return run


@pytest.fixture(scope='session')
def config() -> Config:
    return Config.fromfile(CONFIGS / 'sparse_rcnn_r18_digits.py')


@pytest.fixture(scope='session')
def contents(config: Config) -> dict:
    """What a checkpoint file holds, with proposals that differ and scores that spread."""
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('sparse_rcnn_mm'):
        model = MODELS.build(config.model)
    for stage in model.roi_head.bbox_head:
        torch.nn.init.normal_(stage.fc_cls.bias, std=1.0)
    torch.nn.init.uniform_(model.rpn_head.init_proposal_bboxes.weight, 0.2, 0.8)
    meta = {'classes': CLASSES, 'cat_ids': tuple(range(7, 100, 10))}
    return {'state_dict': model.state_dict(), 'meta': {'cfg': config.pretty_text, 'dataset_meta': meta}}


@pytest.fixture(scope='session')
def checkpoint(contents: dict, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp('checkpoint') / 'random.pth'
    torch.save(contents, path)
    return path


@pytest.fixture(scope='session')
def detector(checkpoint: Path) -> Detector:
    return Detector.from_checkpoint(checkpoint, device='cpu')


@pytest.fixture(scope='session')
def colored() -> Callable[..., np.ndarray]:
    """(seed, height, width) -> an image of smooth colours that differ in the three channels."""

    def make(seed: int, height: int = 200, width: int = 260) -> np.ndarray:
        coarse = np.random.RandomState(seed).randint(0, 256, (5, 6, 3)).astype(np.uint8)
        coarse[..., 2] //= 4
        return np.array(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))

    return make


@pytest.fixture
def folder(tmp_path: Path, colored: Callable[..., np.ndarray]) -> Path:
    """Five images, numbered from 0."""
    path = tmp_path / 'images'
    path.mkdir()
    for index in range(5):
        Image.fromarray(colored(index)).save(path / f'{index}.png')
    return path


@pytest.fixture(scope='session')
def small_checkpoint(config: Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a small model whose boxes move as little as those of a trained one, so that rounding stays rounding."""
    cfg = copy.deepcopy(config)
    cfg.merge_from_dict({'model.backbone.base_channels': 8, 'model.neck.in_channels': [16, 32, 64],
                         'model.roi_head.num_stages': 2})
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('sparse_rcnn_mm'):
        model = MODELS.build(cfg.model)
    for stage in model.roi_head.bbox_head:
        torch.nn.init.normal_(stage.fc_cls.bias, std=1.0)
        stage.fc_reg.weight.data *= 0.1
    torch.nn.init.uniform_(model.rpn_head.init_proposal_bboxes.weight, 0.2, 0.8)
    for norm in (module for module in model.backbone.modules() if hasattr(module, 'running_var')):
        torch.nn.init.uniform_(norm.running_var, 0.5, 2.0)
    path = tmp_path_factory.mktemp('small') / 'small.pth'
    meta = {'cfg': cfg.pretty_text, 'dataset_meta': {'classes': CLASSES, 'cat_ids': tuple(range(7, 100, 10))}}
    torch.save({'state_dict': model.state_dict(), 'meta': meta}, path)
    return path


@pytest.fixture(scope='session')
def exported(small_checkpoint: Path) -> Path:
    """`small_checkpoint` as an ONNX file; tests do not change it."""
    config = torch.load(small_checkpoint, weights_only=True)['meta']['cfg']
    export(Detector.from_checkpoint(small_checkpoint, device='cpu', fast=False),
           path := small_checkpoint.with_suffix('.onnx'), config)
    return path
