"""Each detector of the family goes through the tools by its config alone, as a user runs them on the digits."""
from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from mmengine.config import Config

from sparse_rcnn_mm.benchmark.measure import Workload, measure
from tests.kit import CONFIGS
from tests.kit.through_tools import train_and_resume, use_everywhere

FAMILY = ['adamixer_r18_digits', 'sqr_r18_digits', 'ddq_rcnn_r18_digits']


@pytest.mark.slow
@pytest.mark.parametrize('name', FAMILY)
def test_train_resume_test_infer_and_pictures(name: str, tool: Callable[..., int], small: list[str], digits: Path,
                                              tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    config = str(CONFIGS / f'{name}.py')
    train_and_resume(config, tool, small, tmp_path)

    image = digits / 'val' / '000001.jpg'
    written, found = use_everywhere(Path('whole/iter_4.pth'), image, tmp_path, tool, capsys)
    assert sorted(written) == pytest.approx(sorted(found), abs=1e-3)


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
