"""Exported files made by others: whatever their metadata say and their networks return, there is one sentence."""
from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from sparse_rcnn_mm.errors import UserError
from sparse_rcnn_mm.export.serving import write_serving
from sparse_rcnn_mm.runtime import RuntimeDetector
from sparse_rcnn_mm.runtime.engines import KEY
from sparse_rcnn_mm.runtime.metadata import read_metadata

SOUND = {'format': 1, 'classes': ['a', 'b'], 'category_ids': [3, 1], 'palette': None, 'batch': None, 'config': None,
         'resize': {'short_side': 32, 'max_long_side': 64}, 'precision': 'fp32'}
OUTPUTS = {'boxes': np.array([[[0, 0, 9, 9]]], np.float32), 'scores': np.array([[0.9]], np.float32),
           'labels': np.array([[1]], np.int64)}


def write(path: Path, said: Any = None, names: tuple[str, str] = ('images', 'sizes'), **outputs: np.ndarray) -> Path:
    """A network that always returns the same. `said` is the metadata, as text or content."""
    found = {**OUTPUTS, **outputs}
    dims: list[tuple[str, int, list]] = [(names[0], TensorProto.UINT8, [None, 3, None, None]),
                                         (names[1], TensorProto.INT64, [None, 2])]
    graph = helper.make_graph(
        [helper.make_node('Identity', [f'{name}_value'], [name]) for name in found], 'g',
        [helper.make_tensor_value_info(*one) for one in dims],
        [helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), None)
         for name, value in found.items()],
        [numpy_helper.from_array(value, f'{name}_value') for name, value in found.items()])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid('', 18)], ir_version=10)
    text = said if isinstance(said, str) else json.dumps({**SOUND, **(said or {})})
    model.metadata_props.add(key=KEY, value=text)
    path.write_bytes(model.SerializeToString())
    return path


def image(path: Path) -> str:
    Image.new('RGB', (40, 30)).save(path)
    return str(path)


def test_the_sound_one(tmp_path: Path) -> None:
    found = RuntimeDetector(write(tmp_path / 'x.onnx'))(image(tmp_path / 'x.png'))[0]
    assert found.labels.tolist() == [1] and found.scores.tolist() == pytest.approx([0.9])


METADATA = [
    '', '[', '{}', '[]', '5', 'null', '[' * 100_000, '{"format": ' + '9' * 5000 + '}', {'format': 2}, {'format': [1]},
    {'classes': None}, {'classes': 'ab'}, {'classes': []}, {'classes': [1, 2]}, {'classes': {'a': 1}},
    {'category_ids': None}, {'category_ids': [1]}, {'category_ids': [1, 1]}, {'category_ids': ['1', '2']},
    {'category_ids': [[1], [2]]}, {'palette': 5}, {'palette': [[0, 0, 0]]}, {'palette': [[0, 0, 256]] * 2},
    {'palette': [['url(javascript:1)', 0, 0]] * 2}, {'resize': None}, {'resize': 32}, {'resize': {}},
    {'resize': {'short_side': 0}}, {'resize': {'short_side': -5}}, {'resize': {'short_side': 1e999}},
    {'resize': {'short_side': 10 ** 12}}, {'resize': {'short_side': True}}, {'resize': {'short_side': '32'}},
    {'resize': {'short_side': 32, 'max_long_side': 0}}, {'resize': {'short_side': 32, 'within': [32]}},
    {'resize': {'short_side': 32, 'within': [32, math.nan]}}, {'resize': {'short_side': 32, 'self': 1}},
    {'batch': 0}, {'batch': 'x'}, {'batch': 10 ** 9}, {'config': 5}, {'precision': []},
]


@pytest.mark.parametrize('said', METADATA, ids=lambda said: str(said)[:50])
def test_malformed_metadata(said: Any, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r'x\.onnx') as caught:
        RuntimeDetector(write(tmp_path / 'x.onnx', said))
    assert '\n' not in str(caught.value)


def test_metadata_without_what_is_optional() -> None:
    needed = {key: SOUND[key] for key in ('format', 'classes', 'category_ids', 'resize')}
    assert read_metadata(json.dumps(needed), 'x') == needed


@pytest.mark.parametrize('outputs', [
    {'labels': np.array([[2]])}, {'labels': np.array([[-1]])}, {'labels': np.array([[0.5]], np.float32)},
    {'labels': np.array([1])}, {'labels': np.array([[1, 1]])}, {'scores': np.array([[math.nan]], np.float32)},
    {'scores': np.array([[1]])}, {'scores': np.array(0.9, np.float32)}, {'boxes': np.array([[9.]], np.float32)},
    {'boxes': np.full((1, 1, 4), math.inf, np.float32)}, {'boxes': np.zeros((2, 1, 4), np.float32)},
    {'boxes': np.array([[['a'] * 4]], object)},
], ids=lambda outputs: str(outputs).replace('\n', '')[:50])
def test_outputs_that_are_not_detections(outputs: dict[str, np.ndarray], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r'x\.onnx (does not return|detects other classes|returns|cannot be run)'):
        RuntimeDetector(write(tmp_path / 'x.onnx', **outputs))(image(tmp_path / 'x.png'))


def test_other_inputs_and_outputs(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r'x\.onnx cannot be run: '):
        RuntimeDetector(write(tmp_path / 'x.onnx', names=('pixels', 'sizes')))(image(tmp_path / 'x.png'))


@pytest.mark.parametrize('location', ['/etc/passwd', '../../../../../../../../etc/passwd', 'link',
                                      'secret/../../s.bin'])
def test_weights_in_other_folders_are_not_read(location: str, tmp_path: Path) -> None:
    """Weights may be in a file beside the network, but not anywhere else: a service would return what is in it."""
    folder = tmp_path / 'models'
    (folder / 'secret').mkdir(parents=True)
    (tmp_path / 's.bin').write_bytes(b'secret' * 100)
    (folder / 'link').symlink_to(tmp_path / 's.bin')
    model = onnx.load(write(folder / 'x.onnx'))
    weights = model.graph.initializer[0]
    weights.ClearField('raw_data')
    weights.data_location = TensorProto.EXTERNAL
    weights.external_data.add(key='location', value=location)
    (folder / 'x.onnx').write_bytes(model.SerializeToString())
    with pytest.raises(UserError, match=r'onnxruntime cannot load .*x\.onnx: '):
        RuntimeDetector(folder / 'x.onnx')


@pytest.mark.parametrize('command', ['infer', 'test', 'compare', 'benchmark'])
@pytest.mark.parametrize(('said', 'outputs'), [('{"format": 1}', {}), ({}, {'labels': np.array([[7]])})],
                         ids=['metadata', 'outputs'])
def test_by_every_tool(command: str, said: Any, outputs: dict[str, np.ndarray], tmp_path: Path, digits: Path,
                       checkpoint: Path, tool: Callable[..., int], capsys: pytest.CaptureFixture) -> None:
    path, picture = str(write(tmp_path / 'x.onnx', said, **outputs)), image(tmp_path / 'x.png')
    arguments = {'infer': [picture, '--model', path], 'test': [path, '--data', str(digits)],
                 'compare': [path, path, picture],
                 'benchmark': [path, '--against', str(checkpoint), '--repeats', '1', '--size', '64', '64']}[command]
    assert tool(command, *arguments) == 1
    printed = capsys.readouterr()
    assert 'Traceback' not in printed.out + printed.err
    assert len([line for line in printed.err.splitlines() if line.startswith('error: ')]) == 1


def test_names_reach_all_files_as_text(tmp_path: Path, tool: Callable[..., int]) -> None:
    """Also a name with a line break, half of a surrogate pair, and what looks like markup or a formula."""
    names = ['=1+1\n<b>', '\ud800"}\x1b[31m']
    path, picture = write(tmp_path / 'x.onnx', {'classes': names}), image(tmp_path / 'x.png')
    assert tool('infer', picture, '--model', str(path), '--out-dir', 'out', '--formats', 'coco', 'csv', 'yolo',
                'label-studio', 'cvat') == 0
    out = tmp_path / 'out'
    assert (out / 'detections_yolo/classes.txt').read_text().splitlines() == ['=1+1\\n<b>', '\\ud800"}\\x1b[31m']
    assert "'=1" not in (out / 'detections.csv').read_text()  # only the class that was detected
    assert tool('compare', str(path), str(path), picture, '--out-dir', 'both') == 0
    assert '<b>' not in (tmp_path / 'both/comparison.html').read_text().split('</style>')[1]


def test_names_for_model_servers(tmp_path: Path) -> None:
    with pytest.raises(UserError, match='without a dot at the start'):
        write_serving(write(tmp_path / '...onnx'), tmp_path / 'served' / 'deep')
    (written, config, _) = write_serving(write(tmp_path / 'x.onnx', {'classes': ['"}\nname: "evil', 'b']}),
                                         tmp_path / 'served')
    assert written.is_file() and '\nname: "evil' not in config.read_text()
