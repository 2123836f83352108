"""A checkpoint of random weights, and images with colours, shared by the tests of inference."""
from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from PIL import Image

import sparse_rcnn_mm  # noqa: F401  (mmdet imports without compiled operations after it)
from sparse_rcnn_mm.inference import Detector
from sparse_rcnn_mm.registry import MODELS

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'
CLASSES = ('zero', 'one', 'two', 'three', 'four', 'five', 'six', 'seven', 'eight', 'nine')


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
