"""sparse-rcnn benchmark and sparse-rcnn stages: what they print and write."""
from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sparse_rcnn_mm.cli.commands import run
from sparse_rcnn_mm.inference import Detector
from sparse_rcnn_mm.inference.stages import follow_stages

BENCHMARK = ['benchmark', 'sparse_rcnn_r18_digits', '--size', '64', '96', '--repeats', '1', '--work-dir', 'out']
NARROW = ['--cfg-options', 'model.backbone.base_channels=8', 'model.neck.in_channels=[16,32,64]']


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, 'argv', [])


def error_of(capsys: pytest.CaptureFixture, *argv: str) -> str:
    with pytest.raises(SystemExit) as caught:
        run(argv)
    assert caught.value.code == 1
    return capsys.readouterr().err


def test_benchmark_of_prediction(capsys: pytest.CaptureFixture) -> None:
    assert run([*BENCHMARK, *NARROW]) == 0
    out = capsys.readouterr().out
    assert out.endswith('\n\nwritten to out/benchmark/predict.*\n')
    (row,) = json.loads(Path('out/benchmark/predict.json').read_text())
    assert set(row['part_seconds']) == {'backbone', 'neck', 'proposals', 'flattening', 'stage 1', 'stage 2', 'stage 3',
                                        'rest'}
    first, second, last = (row['flops'][f'stage {i + 1}'] for i in range(3))
    assert first < second < last  # no dynamic kernels in the first, no classifier in all but the last
    assert row['flops']['rest'] == 0
    assert row['workload']['size'] == [64, 96] and row['workload']['batch'] == 1
    assert Image.open('out/benchmark/predict.png').width > 300


def test_benchmark_of_a_checkpoint(checkpoint: Path, capsys: pytest.CaptureFixture) -> None:
    argv = [*BENCHMARK[:2], str(checkpoint), *BENCHMARK[2:]]
    assert run(argv) == 0
    assert 'does not fit the model' in error_of(capsys, *argv, *NARROW)


def test_benchmark_of_training_and_a_sweep(capsys: pytest.CaptureFixture) -> None:
    """The sweep measures what it says: its operations grow with the proposals."""
    assert run([*BENCHMARK, '--train', '--batch', '1', *NARROW]) == 0
    assert run([*BENCHMARK, '--sweep', 'proposals', '--values', '5', '10', *NARROW]) == 0
    (training,), sweep = (json.loads(Path(f'out/benchmark/{name}.json').read_text()) for name in ('train', 'proposals'))
    assert training['workload']['train'] and training['part_seconds']
    few, many = (row['flops']['stage 2'] for row in sweep)
    assert many / few == pytest.approx(2, rel=0.05)  # the attention between them grows faster, but is small
    assert few == pytest.approx(training['flops']['stage 2'] * 5 / 20, rel=0.05)
    assert 'proposals 5: ' in capsys.readouterr().out


def test_benchmark_of_the_loader(digits: Path, capsys: pytest.CaptureFixture) -> None:
    options = ['--cfg-options', f'train_dataloader.dataset.data_root={digits}']
    assert run([*BENCHMARK, '--loader', '3', *options]) == 0
    assert 'LoadRGBImage' in capsys.readouterr().out


@pytest.mark.parametrize(('options', 'said'), [
    (['--train', '--compile'], '--compile is only for prediction'),
    (['--size', '60', '96'], '--size 60 96: both must be multiples of 32'),
    (['--data', 'x'], '--data is only for --loader'),
])
def test_benchmark_refuses(options: list[str], said: str, capsys: pytest.CaptureFixture) -> None:
    assert error_of(capsys, *BENCHMARK, *options).startswith(f'error: {said}')


def test_stages(checkpoint: Path, colored: Callable[..., np.ndarray], capsys: pytest.CaptureFixture) -> None:
    """The table holds the scores of `follow_stages`; the picture has a panel for the start and for every stage."""
    Image.fromarray(colored(3)).save('photo.png')
    assert run(['stages', 'photo.png', '--model', str(checkpoint), '--out-dir', 'out', '--side', '120', '--score-thr',
                '0.2', '--device', 'cpu']) == 0
    lines = capsys.readouterr().out.splitlines()
    stages = follow_stages(Detector.from_checkpoint(checkpoint, device='cpu', fast=False), colored(3), 0.2)
    assert lines[0].split() == ['proposal', 'class', *(word for i in range(3) for word in ('stage', str(i + 1)))]
    for line, query in zip(lines[1:-2], stages.kept, strict=True):
        number, name, *scores = line.split()
        assert (int(number), name) == (query, stages.names[query])
        assert [float(score) for score in scores] == pytest.approx(list(stages.scores[:, query]), abs=0.006)
    assert lines[-2:] == ['out/photo_stages.png', 'out/photo_stages.gif']
    assert Image.open('out/photo_stages.gif').n_frames > 3
    assert Image.open('out/photo_stages.png').width >= 4 * 120


def test_stages_without_a_proposal_to_follow(checkpoint: Path, colored: Callable[..., np.ndarray],
                                             capsys: pytest.CaptureFixture) -> None:
    Image.fromarray(colored(3)).save('photo.png')
    said = error_of(capsys, 'stages', 'photo.png', '--model', str(checkpoint), '--score-thr', '1', '--device', 'cpu')
    assert said.startswith('error: no proposal reaches a score of 1.0 on photo.png; the best has 0.')
    assert said.endswith(': lower --score-thr\n')
