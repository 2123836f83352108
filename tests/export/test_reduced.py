"""Half precision, 8-bit convolutions and OpenVINO: near what float32 gives, and smaller; the command line."""
from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image

from sparse_rcnn_mm.errors import UserError
from sparse_rcnn_mm.export.proof import smooth_image, stack
from sparse_rcnn_mm.export.reduced import Calibration, onnx_fp16, onnx_int8, openvino_file
from sparse_rcnn_mm.runtime import Engine

RULE = {'short_side': 192, 'max_long_side': None}


def found(path: Path) -> list[np.ndarray]:
    """Of one image; the boxes by score, so that neighbors that change places do not matter much."""
    image = smooth_image(5, 150, 210)
    boxes, scores, _ = Engine(path)(stack([image]), np.array([image.shape[:2]]))
    return [boxes[0], scores[0]]


def apart(path: Path, exported: Path) -> float:
    """Mean difference of the sorted scores."""
    return float(np.abs(found(path)[1] - found(exported)[1]).mean())


def test_half_precision_halves_the_file_and_hardly_moves_scores(exported: Path, tmp_path: Path) -> None:
    path = tmp_path / 'half.onnx'
    onnx_fp16(exported, path)
    onnx.checker.check_model(str(path), full_check=True)
    assert path.stat().st_size < 0.55 * exported.stat().st_size
    assert 0 < apart(path, exported) < 2e-3
    assert Engine(path).metadata == Engine(exported).metadata


def test_weights_beyond_half_precision_are_refused(exported: Path, tmp_path: Path) -> None:
    model = onnx.load(exported)
    largest = max(model.graph.initializer, key=lambda one: np.prod(one.dims))
    largest.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(largest) * 1e9, largest.name))
    onnx.save(model, tmp_path / 'large.onnx')
    with pytest.raises(UserError, match='beyond the range of half precision: export without --fp16'):
        onnx_fp16(tmp_path / 'large.onnx', tmp_path / 'half.onnx')


def test_eight_bits_are_for_convolutions_only(exported: Path, folder: Path, tmp_path: Path) -> None:
    path = tmp_path / 'int8.onnx'
    metadata = {**Engine(exported).metadata, 'precision': 'int8'}
    onnx_int8(exported, path, Calibration(folder, RULE), metadata)
    graph = onnx.load(path).graph
    inputs = {name: node for node in graph.node for name in node.output}
    convolutions = [node for node in graph.node if node.op_type == 'Conv']
    assert len(convolutions) > 20
    for node in convolutions:
        assert [inputs[name].op_type for name in node.input[:2]] == ['DequantizeLinear'] * 2
    for node in graph.node:
        if node.op_type in ('MatMul', 'Gemm', 'LayerNormalization'):
            assert not {inputs[name].op_type for name in node.input if name in inputs} & {'DequantizeLinear'}
    assert Engine(path).metadata == metadata  # which quantizing drops
    assert 0 < apart(path, exported) < 0.02


def test_calibration_takes_images_of_all_sizes_below_a_folder(tmp_path: Path,
                                                              colored: Callable[..., np.ndarray]) -> None:
    (tmp_path / 'a' / 'b').mkdir(parents=True)
    Image.fromarray(colored(1, 96, 192)).save(tmp_path / 'a/b/1.PNG')
    Image.fromarray(colored(2, 384, 192)).save(tmp_path / 'a/2.jpg')
    (tmp_path / 'a/notes.txt').write_text('x')
    taken = list(Calibration(tmp_path, RULE))
    assert [one['sizes'].tolist() for one in taken] == [[[384, 192]], [[192, 384]]]
    assert [one['images'].shape for one in taken] == [(1, 3, 384, 192), (1, 3, 192, 384)]
    with pytest.raises(UserError, match='there are no images in .*nowhere to calibrate int8 with'):
        Calibration(tmp_path / 'nowhere', RULE)


@pytest.mark.parametrize(('precision', 'nearest', 'farthest'), [('fp32', 0, 1e-6), ('fp16', 1e-9, 2e-3),
                                                                ('int8', 1e-5, 0.02)])
def test_openvino(exported: Path, folder: Path, tmp_path: Path, precision: str, nearest: float,
                  farthest: float) -> None:
    pytest.importorskip('openvino')
    if precision == 'int8':
        pytest.importorskip('nncf')
    path = tmp_path / 'model.xml'
    metadata = Engine(exported).metadata
    openvino_file(exported, path, metadata, fp16=precision == 'fp16',
                  images=Calibration(folder, RULE) if precision == 'int8' else None)
    assert Engine(path).metadata == metadata
    assert nearest <= apart(path, exported) <= farthest
    if precision == 'fp32':
        assert np.abs(found(path)[0] - found(exported)[0]).max() < 1e-3


def test_command_line(small_checkpoint: Path, exported: Path, tool: Callable[..., int], tmp_path: Path,
                      capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    for arguments, said in ((['--fp16'], '--fp16 changes detections: add --check'),
                            (['--out', 'x.pth'], '--out x.pth must end in .onnx for --format onnx')):
        assert tool('export', str(small_checkpoint), *arguments) == 1
        assert said in capsys.readouterr().err
    assert tool('infer', str(folder), '--model', str(exported), '--score-thr', '0.1', '--no-pictures') == 0
    ours = json.loads((tmp_path / 'detections/detections.json').read_text())
    assert tool('infer', str(folder), '--model', str(small_checkpoint), '--score-thr', '0.1', '--no-pictures',
                '--out-dir', 'torch') == 0
    theirs = json.loads((tmp_path / 'torch/detections.json').read_text())
    assert ours['categories'] == theirs['categories'] and ours['images'] == theirs['images']
    assert len(ours['annotations']) == len(theirs['annotations']) > 50
    for key, limit in (('score', 2e-5), ('bbox', 0.011), ('area', 3)):
        np.testing.assert_allclose([one[key] for one in ours['annotations']],
                                   [one[key] for one in theirs['annotations']], atol=limit)
    assert tool('infer', str(folder), '--model', str(exported), '--compile') == 1
    assert 'is an exported file, for which there is no --config' in capsys.readouterr().err


@pytest.mark.slow
def test_the_ap_of_a_file_is_that_of_its_checkpoint(small_checkpoint: Path, exported: Path, digits: Path,
                                                    tool: Callable[..., int], tmp_path: Path) -> None:
    for name, model in (('torch', small_checkpoint), ('onnx', exported)):
        assert tool('analyze', str(model), '--out-dir', name, '--work-dir', 'w', '--cfg-options',
                    f'test_dataloader.dataset.data_root={digits}', f'test_evaluator.0.ann_file={digits}/val.json') == 0
    ours, theirs = (json.loads((tmp_path / name / 'analysis.json').read_text()) for name in ('onnx', 'torch'))
    assert ours['overall']['AP'] == pytest.approx(theirs['overall']['AP'], abs=1e-6)
    assert {name: row['count'] for name, row in ours['errors'].items()} == {
        name: row['count'] for name, row in theirs['errors'].items()}
