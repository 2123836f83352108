"""Folders for model servers."""
from __future__ import annotations

import json
import re
from pathlib import Path

import onnx
import pytest

from sparse_rcnn_mm.errors import UserError
from sparse_rcnn_mm.export.serving import write_serving

# Type of tensors in ONNX and in Triton.
TYPES = {onnx.TensorProto.UINT8: 'TYPE_UINT8', onnx.TensorProto.INT64: 'TYPE_INT64',
         onnx.TensorProto.FLOAT: 'TYPE_FP32'}


def test_the_configs_say_what_the_file_says(exported: Path, tmp_path: Path) -> None:
    written = write_serving(exported, tmp_path)
    name = exported.stem
    assert {str(path.relative_to(tmp_path)) for path in tmp_path.rglob('*') if path.is_file()} == {
        f'{name}/1/model.onnx', f'{name}/config.pbtxt', 'config.json'} == {
        str(path.relative_to(tmp_path)) for path in written}
    assert (tmp_path / name / '1/model.onnx').read_bytes() == exported.read_bytes()
    text = (tmp_path / name / 'config.pbtxt').read_text()
    assert text.startswith(f'name: "{name}"\nbackend: "onnxruntime"\nmax_batch_size: 0\ninput [\n')
    said = {found: (kind, [int(dim) for dim in dims.split(',')]) for found, kind, dims in
            re.findall(r'\{ name: "(\w+)" data_type: (\w+) dims: \[ ([-\d, ]+) \] \}', text)}
    graph = onnx.load(exported, load_external_data=False).graph
    assert said == {value.name: (TYPES[value.type.tensor_type.elem_type], [
        dim.dim_value or -1 for dim in value.type.tensor_type.shape.dim]) for value in (*graph.input, *graph.output)}


def test_servers_read_the_configs(exported: Path, tmp_path: Path) -> None:
    """Triton's is parsed by the published protocol."""
    write_serving(exported, tmp_path)
    config = pytest.importorskip('tritonclient.grpc.model_config_pb2').ModelConfig()
    from google.protobuf import text_format
    text_format.Parse((tmp_path / exported.stem / 'config.pbtxt').read_text(), config)
    assert [one.name for one in (*config.input, *config.output)] == ['images', 'sizes', 'boxes', 'scores', 'labels']
    assert list(config.input[0].dims) == [-1, 3, -1, -1] and config.max_batch_size == 0
    about = json.loads(config.parameters['sparse_rcnn_mm'].string_value)
    assert about['classes'] and 'config' not in about


def test_a_second_model_joins_the_first(exported: Path, tmp_path: Path) -> None:
    (tmp_path / 'b.onnx').write_bytes(exported.read_bytes())
    write_serving(exported, tmp_path / 'models')
    write_serving(tmp_path / 'b.onnx', tmp_path / 'models')
    assert json.loads((tmp_path / 'models/config.json').read_text()) == {'model_config_list': [
        {'config': {'name': name, 'base_path': f'/models/{name}'}} for name in sorted(['b', exported.stem])]}


@pytest.mark.parametrize(('name', 'said'), [('x.pt2', 'model servers take .onnx and .xml files, not'),
                                            ('my model.onnx', 'servers want names of letters, digits, dots')])
def test_what_servers_do_not_take_is_one_sentence(exported: Path, tmp_path: Path, name: str, said: str) -> None:
    (tmp_path / name).write_bytes(exported.read_bytes())
    with pytest.raises(UserError, match=said):
        write_serving(tmp_path / name, tmp_path / 'models')
    assert not (tmp_path / 'models').exists()
