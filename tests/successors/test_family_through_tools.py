"""Each detector of the family goes through the tools by its config alone, as a user runs them on the digits."""
from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config

from sparse_rcnn_mm.benchmark.measure import Workload, measure
from sparse_rcnn_mm.inference import Detector
from tests.kit import CONFIGS

FAMILY = ['adamixer_r18_digits', 'sqr_r18_digits', 'ddq_rcnn_r18_digits']


@pytest.mark.parametrize('name', [pytest.param(name, marks=() if name == FAMILY[0] else pytest.mark.slow)
                                  for name in FAMILY])
def test_train_resume_test_infer_and_pictures(name: str, tool: Callable[..., int], small: list[str], digits: Path,
                                              tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    config = str(CONFIGS / f'{name}.py')
    assert tool('train', config, '--work-dir', 'whole', *small) == 0
    assert tool('train', config, '--work-dir', 'parts', '--resume', 'whole/iter_2.pth', *small) == 0
    whole, parts = (torch.load(tmp_path / folder / 'iter_4.pth', weights_only=True)['state_dict']
                    for folder in ('whole', 'parts'))
    assert all(torch.equal(whole[key], parts[key]) for key in whole)

    assert tool('test', 'whole/iter_4.pth') == 0
    image = digits / 'val' / '000001.jpg'
    assert tool('infer', image, '--model', 'whole/iter_4.pth', '--score-thr', '0') == 0
    found = json.loads((tmp_path / 'detections/detections.json').read_text())['annotations']
    assert tool('visualize_stages', image, '--model', 'whole/iter_4.pth', '--score-thr', '0', '--side', '60') == 0
    assert 'stage 2' in capsys.readouterr().out

    fast, plain = (Detector.from_checkpoint(tmp_path / 'whole/iter_4.pth', device='cpu', fast=fast)
                   for fast in (True, False))
    np.testing.assert_allclose(fast(image).scores, plain(image).scores, atol=1e-4)
    assert sorted(one['score'] for one in found) == pytest.approx(sorted(fast(image).scores.tolist()), abs=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize('name', FAMILY)
@pytest.mark.parametrize('train', [False, True])
def test_benchmark_by_part(name: str, train: bool) -> None:
    result = measure(Config.fromfile(CONFIGS / f'{name}.py'), Workload(size=(64, 96), repeats=1, train=train))
    assert {'backbone', 'neck', 'proposals', 'stage 1', 'stage 2'} <= set(result.part_seconds)
    assert result.flops['stage 1'] > 0


@pytest.mark.slow
@pytest.mark.parametrize('name', FAMILY)
def test_own_data_set_the_classes(name: str, tool: Callable[..., int], small: list[str], digits: Path,
                                  tmp_path: Path) -> None:
    options = [option for option in small if 'data_root' not in option and 'ann_file' not in option]
    assert tool('train', str(CONFIGS / f'{name}.py'), '--data', digits, '--work-dir', 'own', '--amp', *options) == 0
    assert tool('test', 'own/iter_4.pth') == 0
