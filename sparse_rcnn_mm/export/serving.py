"""Writes an exported file to a folder that Triton Inference Server and OpenVINO Model Server can load directly.

    FOLDER/NAME/1/model.onnx       the file as version 1
    FOLDER/NAME/config.pbtxt       for Triton: `message ModelConfig` of its model_config.proto
    FOLDER/config.json             for OpenVINO Model Server: a list of models
"""
from __future__ import annotations

import json
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from sparse_rcnn_mm.errors import UserError
from sparse_rcnn_mm.runtime import Engine
from sparse_rcnn_mm.runtime.engines import MASKS

BACKENDS = {'.onnx': 'onnxruntime', '.xml': 'openvino'}


def write_serving(model: Path, folder: Path) -> list[Path]:
    """Write the folder. Returns its files.

    Args:
        model: an exported .onnx or .xml file; its name becomes that of the model.
        folder: the output folder, created if necessary. Models with other names in it are kept.

    Raises:
        UserError: the servers do not support such a file, or its name.
    """
    if model.suffix not in BACKENDS:
        raise UserError(f'model servers take .onnx and .xml files, not {model}')
    name = model.stem
    if not re.fullmatch(r'[A-Za-z0-9_-][A-Za-z0-9_.-]*', name):
        raise UserError(f'{model}: servers want names of letters, digits, dots, _ and - only, '
                        'without a dot at the start; give another --out')
    engine = Engine(model)
    version = folder / name / '1'
    version.mkdir(parents=True, exist_ok=True)
    written = [version / f'model{model.suffix}', folder / name / 'config.pbtxt', folder / 'config.json']
    shutil.copy(model, written[0])
    if model.suffix == '.xml':
        written.append(version / 'model.bin')
        shutil.copy(model.with_suffix('.bin'), written[-1])
    written[1].write_text(triton_config(name, BACKENDS[model.suffix], engine))
    names = sorted(path.parent.name for path in folder.glob('*/1'))
    written[2].write_text(json.dumps({'model_config_list': [
        {'config': {'name': one, 'base_path': f'/models/{one}'}} for one in names]}, indent=1) + '\n')
    return written


def triton_config(name: str, backend: str, engine: Engine) -> str:
    """Return the text of config.pbtxt. The batch is an ordinary dimension, because `sizes` depends on it."""
    said = engine.metadata
    batch, (height, width) = said.get('batch') or -1, said['resize'].get('within') or (-1, -1)
    _, scores, _, *masked = engine(np.zeros((1, 3, 64, 64), np.uint8), np.array([[64, 64]]))
    found = scores.shape[1]
    inputs = [('images', 'TYPE_UINT8', (batch, 3, height, width)), ('sizes', 'TYPE_INT64', (batch, 2))]
    outputs = [('boxes', 'TYPE_FP32', (batch, found, 4)), ('scores', 'TYPE_FP32', (batch, found)),
               ('labels', 'TYPE_INT64', (batch, found)),
               *((name, 'TYPE_FP32', (batch, *array.shape[1:])) for name, array in zip(MASKS, masked, strict=False))]
    about = json.dumps({key: value for key, value in said.items() if key != 'config'})
    return (f'name: "{name}"\nbackend: "{backend}"\nmax_batch_size: 0\n'
            f'input [\n{_tensors(inputs)}\n]\noutput [\n{_tensors(outputs)}\n]\n'
            'parameters {\n  key: "sparse_rcnn_mm"\n'
            f'  value {{ string_value: {json.dumps(about)} }}\n}}\n')


def _tensors(rows: Sequence[tuple[str, str, Sequence[int]]]) -> str:
    return ',\n'.join(f'  {{ name: "{name}" data_type: {kind} dims: [ {", ".join(map(str, dims))} ] }}'
                      for name, kind, dims in rows)
