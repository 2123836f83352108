"""Writes a detector as an ONNX file."""
from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from sparse_rcnn_mm.errors import UserError
from sparse_rcnn_mm.runtime.engines import KEY

from .forms import ExportedNetwork
from .tracing import Tracing

OPSET = 18
# Operators that engines refuse or run slowly. TensorRT supports none of them with symbolic sizes.
UNWANTED = {'If', 'Loop', 'NonZero', 'Scan'}
# The size limit of a protobuf message.
ONE_FILE_BYTES = 2**31 - 2**24


@torch.no_grad()
def write_onnx(network: ExportedNetwork, metadata: dict[str, Any], path: Path, tracing: Tracing) -> None:
    """Trace the network and write it to a file.

    Raises:
        UserError: a package is missing, or a part of the network cannot be expressed in ONNX's standard operators.
    """
    try:
        import onnx
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise UserError(f'{error.name} is missing: run `pip install onnx onnxscript onnxruntime`') from error
    try:
        with quiet(), plain_attention():
            program = torch.onnx.export(
                network, tracing.example(), dynamo=True, opset_version=OPSET, verbose=False,
                input_names=['images', 'sizes'], output_names=network.outputs, dynamic_shapes=tracing.open_sizes())
    except Exception as error:  # parts from outside can raise anything
        reason = ' '.join(str(error.__cause__ or error).split())[:300]
        raise UserError(f'the network cannot be traced ({reason}): a part of it uses other than standard '
                        'operators, or its control flow depends on values') from error
    assert program is not None
    _strip(program.model)
    program.model.metadata_props[KEY] = json.dumps(metadata)
    weights = sum(value.const_value.nbytes for value in program.model.graph.initializers.values()
                  if value.const_value is not None)
    program.save(str(path), external_data=weights > ONE_FILE_BYTES)
    onnx.checker.check_model(str(path), full_check=True)


def _strip(model: Any) -> None:
    """Remove the source locations of the nodes, and check that all operators are standard ones.

    Raises:
        UserError: some operators are not.
    """
    nodes = list(model.graph.all_nodes())
    wrong = sorted({node.op_type for node in nodes if node.domain not in ('', 'ai.onnx')
                    or node.op_type in UNWANTED or node.op_type.startswith(('Sequence', 'Optional'))})
    if wrong or model.functions:
        raise UserError(f'the graph would have operators that engines refuse ({", ".join(wrong) or "functions"}): they '
                        'come from a part of the network that is not from this package')
    for thing in (model.graph, *nodes, *(value for node in nodes for value in node.outputs)):
        thing.metadata_props.clear()
        thing.doc_string = None


@contextmanager
def quiet() -> Iterator[None]:
    """Silence the exporter's messages about packages and constants."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            yield
    finally:
        logging.disable(before)


@contextmanager
def plain_attention() -> Iterator[None]:
    """Turn off the fused attention, which cannot be exported to ONNX."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)
