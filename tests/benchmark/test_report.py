"""Tables, files and charts of measurements, with numbers worked out by hand."""
from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pytest
from PIL import Image

from sparse_rcnn_mm.benchmark.measure import Result, Workload
from sparse_rcnn_mm.benchmark.report import draw_parts, draw_sweep, parts_table, share, sweep_table, table, write
from sparse_rcnn_mm.benchmark.timing import Spread


def result(seconds: float = 2., train: bool = True, cpu_time: bool = False, **more: Any) -> Result:
    return Result(Workload(size=(64, 96), batch=4, against='mmdet', train=train, cpu_time=cpu_time), 'a machine',
                  Spread(seconds - 1, seconds, seconds + 1), parameters=1, peak_gflops=30., **more)


def test_what_was_not_measured_is_not_in_the_table() -> None:
    lines = table(result(train=False)).splitlines()
    assert lines[0] == 'prediction, 4 x 64x96, fp32, on a machine'
    assert [line.split('|')[1].strip() for line in lines[4:]] == ['seconds', 'images / s', 'parameters',
                                                                 'peak of the machine']


def test_memory_and_differences_of_both() -> None:
    text = table(result(memory=10.4, against_seconds=Spread(3., 4., 5.), against_memory=20.6, ratio=Spread(1., 2., 3.),
                        differences={'boxes': 0.00012}))
    for line in ('| peak memory beyond the idle model | 10 MiB |', '| peak memory, mmdet | 21 MiB |',
                 '| seconds, mmdet fp32 | 4.000 (3.000..5.000) |', '| largest difference, boxes | 1.2e-04 |'):
        assert line in text


def test_shares() -> None:
    assert share(1, 3) == '33%' and share(1, 0) == '-'
    rows = parts_table(result(part_seconds={'neck': 0., 'rest': 2.}, flops={'neck': 10 ** 9, 'rest': 10 ** 9}))
    assert rows[2:] == ['| neck | 0.000 | 0% | 1.00 | - |', '| rest | 2.000 | 100% | 1.00 | - |']


def test_a_sweep() -> None:
    matched = {'backbone': 1.5, 'matching and losses': 0.5}
    results = [(100, result(2., memory=10.4, part_seconds=matched)), (300, result(4.)), (500, result(6., train=False))]
    assert sweep_table('proposals', results).splitlines() == [
        '| proposals | seconds | MiB | matching and losses |', '|---|---|---|---|',
        '| 100 | 2.000 (1.000..3.000) | 10 | 25% |', '| 300 | 4.000 (3.000..5.000) | - | - |',
        '| 500 | 6.000 (5.000..7.000) | - | - |']


def test_the_files(tmp_path: Path) -> None:
    write(tmp_path / 'a/b', 'train', 'text', [result(2.), result(4., memory=1.)])
    assert (tmp_path / 'a/b/train.md').read_text() == 'text\n'
    one, other = json.loads((tmp_path / 'a/b/train.json').read_text())
    assert one['seconds'] == {'low': 1., 'median': 2., 'high': 3.} and one['memory'] is None and other['memory'] == 1.


@pytest.fixture
def axes(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What is drawn, kept open until the test has looked at it."""
    figures: list[Any] = []
    monkeypatch.setattr(plt, 'close', figures.append)
    return figures


def test_the_bars_of_parts(tmp_path: Path, axes: list[Any]) -> None:
    draw_parts(tmp_path / 'parts.png', result(part_seconds={'backbone': 0.5, 'neck': 0.25, 'rest': 1.25}, cpu_time=True,
                                              against_seconds=Spread(3., 4., 5.)))
    (drawn,) = axes[0].axes
    assert [(bar.get_x(), bar.get_width()) for bar in drawn.patches] == [(0, 0.5), (0.5, 0.25), (0.75, 1.25), (0, 4.)]
    assert drawn.get_xlabel() == 'CPU seconds' and Image.open(tmp_path / 'parts.png').width == 990


def test_the_curves_of_a_sweep(tmp_path: Path, axes: list[Any]) -> None:
    draw_sweep(tmp_path / 'sweep.png', 'proposals', [(100, result(2.)), (300, result(4.))])
    time, memory = axes[0].axes
    assert time.lines[0].get_xydata().tolist() == [[100, 2], [300, 4]] and time.get_ylim() == pytest.approx((0, 4.4))
    assert memory.lines[0].get_xydata().tolist() == [[100, 0], [300, 0]] and memory.get_ylim() == (0, 1)
    assert (time.get_xlabel(), time.get_ylabel(), memory.get_ylabel()) == ('proposals', 'seconds', 'peak memory, MiB')
