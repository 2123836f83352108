"""Exported files against their checkpoint."""
from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sparse_rcnn_mm.benchmark.engines import Row, Worker, engines_table, size_of
from sparse_rcnn_mm.benchmark.timing import Spread
from sparse_rcnn_mm.cli.benchmark import main
from sparse_rcnn_mm.errors import UserError
from sparse_rcnn_mm.export.proof import Differences, smooth_image
from sparse_rcnn_mm.runtime import RuntimeDetector


@pytest.mark.slow
def test_file_against_checkpoint(exported: Path, small_checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(exported), '--against', str(small_checkpoint), '--repeats', '2', '--threads', '1',
                 '--size', '96', '130']) == 0
    torch, onnx = ([cell.strip() for cell in line.split('|')] for line in capsys.readouterr().out.splitlines()[-2:])
    assert (torch[1], onnx[1]) == (small_checkpoint.name, exported.name)
    assert torch[2].startswith('torch ') and onnx[2].startswith('onnxruntime ')
    assert torch[3:5] == onnx[3:5] == ['fp32', '1'] and torch[6] == '1.00 (1.00..1.00)'
    assert float(torch[8]) > float(onnx[8]) > 50  # memory
    assert float(torch[10]) == 0 and float(onnx[10]) < 1e-3 and float(onnx[11]) < 1e-5


@pytest.mark.slow
def test_a_worker_detects_in_its_own_process(exported: Path) -> None:
    image = smooth_image(3, 192, 256)
    with Worker(exported, 1) as worker:
        answer = worker([image])
        assert worker.loaded['engine'].startswith('onnxruntime ') and worker.loaded['precision'] == 'fp32'
    (wanted,) = RuntimeDetector(exported)(image)
    for ours, theirs in zip(answer['found'][0][:3], wanted[:3], strict=True):  # no masks
        np.testing.assert_allclose(ours, theirs, atol=1e-4)
    assert 0 < answer['seconds'] < 600
    assert 50 < answer['memory'] < 500  # PyTorch is not in there
    with pytest.raises(UserError, match='the process with .*x.onnx ended: .*there is no exported model'):
        Worker('x.onnx', 1)


def test_table() -> None:
    row = Row('a.onnx', 'onnxruntime 1', 'int8', 2, Spread(0.1, 0.2, 0.3), Spread(1.9, 2, 2.1), 23.61, 150.4, 0.52,
              Differences(2e-4, 3e-7, 2, 20))
    assert engines_table([row], (96, 128), 1).splitlines()[-1] == (
        '| a.onnx | onnxruntime 1 | int8 | 2 | 0.200 (0.100..0.300) | 2.00 (1.90..2.10) | 23.6 | 150 | 0.5 | 2.0e-04 | '
        '3.0e-07 | 2 of 20 |')
    others = replace(row, differences=Differences(np.inf, np.inf, 0, 20))
    assert engines_table([others], None, 1).endswith('| 0.5 | other objects | other objects | 0 of 20 |')


def test_size_counts_all_files_of_a_model(tmp_path: Path) -> None:
    for name, size in (('m.xml', 3), ('m.bin', 40), ('m.onnx', 500)):
        (tmp_path / name).write_bytes(b'x' * size)
    assert size_of(tmp_path / 'm.xml') == 43 and size_of(tmp_path / 'm.onnx') == 500


@pytest.mark.parametrize(('arguments', 'said'), [
    (['a.onnx'], 'a.onnx is an exported file: name its checkpoint with --against CHECKPOINT'),
    (['a.onnx', '--against', 'b.xml'], 'name its checkpoint'),
    (['a.onnx', '--against', 'a.pth', '--train'], 'for which there are only --against, --size, --batch'),
    (['sparse_rcnn_r50_3x', '--against', 'a.pth'], "--against a.pth: a config is compared with 'mmdet'"),
])
def test_what_does_not_go_together_is_one_sentence(arguments: list[str], said: str) -> None:
    with pytest.raises(UserError, match=said):
        main(arguments)
