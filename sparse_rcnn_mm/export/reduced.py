"""Makes smaller and faster files from an exported ONNX file: OpenVINO format, half precision, 8-bit convolutions."""
from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from sparse_rcnn_mm.datasets.read_image import read_image
from sparse_rcnn_mm.errors import UserError
from sparse_rcnn_mm.runtime.engines import KEY
from sparse_rcnn_mm.runtime.preprocessing import resize, resized_shape

# Smaller tensors save hardly any space, and norms and biases are more sensitive.
WORTH_NUMBERS = 4096
# More images hardly change the ranges.
MOST_IMAGES = 300


class Calibration:
    """Yields the network's inputs for the images that the ranges of activations are measured on.

    Args:
        folder: a folder of images, searched recursively.
        rule: `resize` of the metadata.

    Raises:
        UserError: the folder has no images.
    """

    def __init__(self, folder: Path, rule: dict[str, Any]) -> None:
        Image.init()
        paths = sorted(path for path in folder.rglob('*') if path.suffix.lower() in Image.EXTENSION)
        if not paths:
            raise UserError(f'there are no images in {folder} to calibrate int8 with')
        self.paths = paths[::-(-len(paths) // MOST_IMAGES)]
        self.rule = rule
        self._inputs = iter(self)

    def __iter__(self) -> Iterator[dict[str, np.ndarray]]:
        for path in self.paths:
            image = read_image(str(path))
            image = resize(image, *resized_shape(*image.shape[:2], **self.rule))
            yield {'images': image.transpose(2, 0, 1)[None].copy(), 'sizes': np.array([image.shape[:2]], np.int64)}

    def get_next(self) -> dict[str, np.ndarray] | None:
        """The next input, or None at the end: the interface of ONNX Runtime."""
        return next(self._inputs, None)


def onnx_fp16(source: Path, target: Path) -> None:
    """Store matrices and kernels in half precision. The computation is unchanged."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    model = onnx.load(source)
    casts = []
    for tensor in model.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT and np.prod(tensor.dims) >= WORTH_NUMBERS:
            name = tensor.name
            with np.errstate(over='ignore'):
                half = numpy_helper.to_array(tensor).astype(np.float16)
            if not np.isfinite(half).all():
                raise UserError(f'{name} has weights beyond the range of half precision: export without --fp16')
            tensor.CopyFrom(numpy_helper.from_array(half, f'{name}.half'))
            casts.append(helper.make_node('Cast', [tensor.name], [name], to=TensorProto.FLOAT))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    onnx.save(model, target)


def onnx_int8(source: Path, target: Path, images: Calibration, metadata: dict[str, Any]) -> None:
    """Compute convolutions in 8 bits, with one range per output channel. Everything else is unchanged."""
    import onnx
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

    # The reduced range is needed on processors without VNNI, where 16-bit sums would overflow.
    quantize_static(source, target, images, quant_format=QuantFormat.QDQ, op_types_to_quantize=['Conv'],
                    per_channel=True, reduce_range=True, activation_type=QuantType.QUInt8,
                    weight_type=QuantType.QInt8)
    model = onnx.load(target)
    del model.metadata_props[:]
    entry = model.metadata_props.add()
    entry.key, entry.value = KEY, json.dumps(metadata)  # quantization drops it
    onnx.save(model, target)


def openvino_file(source: Path, target: Path, metadata: dict[str, Any], fp16: bool = False,
                  images: Calibration | None = None) -> None:
    """Write `target` (.xml, with the weights in a .bin file), optionally in half precision or 8-bit convolutions."""
    try:
        import openvino as ov
    except ImportError as error:
        raise UserError('openvino is missing: run `pip install openvino nncf`') from error
    model = ov.convert_model(source)
    if images is not None:
        model = _quantized(model, images)
    model.set_rt_info(json.dumps(metadata), KEY)
    ov.save_model(model, target, compress_to_fp16=fp16)


def _quantized(model: Any, images: Calibration) -> Any:
    """Quantize only what leads to a convolution. With the head in 8 bits, a detector loses most of its AP."""
    try:
        import nncf
    except ImportError as error:
        raise UserError('nncf is missing: run `pip install nncf`') from error
    nncf.set_log_level(logging.ERROR)  # otherwise it prints a line for every operation that it does not change
    operations = model.get_ordered_ops()
    leading = _ancestors([one for one in operations if one.get_type_name() == 'Convolution'])
    others = [one.get_friendly_name() for one in operations
              if one.get_friendly_name() not in leading and one.get_type_name() not in ('Constant', 'Result')]
    return nncf.quantize(model, nncf.Dataset(list(images)), subset_size=len(images.paths),
                         ignored_scope=nncf.IgnoredScope(names=others, validate=False))


def _ancestors(operations: Sequence[Any]) -> set[str]:
    """The names of operations and of all operations that they depend on."""
    waiting, seen = list(operations), set()
    while waiting:
        one = waiting.pop()
        if one.get_friendly_name() not in seen:
            seen.add(one.get_friendly_name())
            waiting += [value.get_source_output().get_node() for value in one.inputs()]
    return seen
