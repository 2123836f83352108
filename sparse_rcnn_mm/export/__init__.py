"""Exports a detector to a file for other engines, and verifies that the file gives the same detections."""
from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sparse_rcnn_mm.errors import UserError
from sparse_rcnn_mm.inference import Detector
from sparse_rcnn_mm.runtime import Engine

from .description import describe, network_of
from .onnx_file import write_onnx
from .proof import Differences, Limits, prove
from .pt2_file import write_pt2
from .reduced import Calibration, onnx_fp16, onnx_int8, openvino_file
from .tracing import Tracing

__all__ = ['Calibration', 'Tracing', 'export']


def export(detector: Detector, path: str | os.PathLike, config: str | None = None, precision: str = 'fp32',
           images: str | os.PathLike | None = None, accept: Callable[[Path], None] = lambda _: None,
           tracing: Tracing | None = None) -> Differences:
    """Export a detector to a file for other engines, and verify that it gives the same detections as PyTorch.

    The float32 file is verified. `accept` should measure the loss from lower precision.

    Args:
        detector: `Detector.from_checkpoint(..., device='cpu', fast=False)`.
        path: the file: .onnx; .xml for OpenVINO, which puts the weights in a .bin file in the same folder; or .pt2.
        config: the text of the detector's config, which is needed to test the file.
        precision: 'fp32'; 'fp16' for the weights; or 'int8' for the convolutions.
        images: a folder of images to calibrate 'int8'.
        accept: called with the finished file before it is moved to `path`. It raises if the file is not good enough.
        tracing: which sizes are fixed, and what is output. Default: none, and the detections.

    Returns:
        The largest differences from PyTorch.

    Raises:
        UserError: the detector cannot be exported, or the file gives other detections. Then no file is written.
    """
    path = Path(path)
    if path.suffix not in ('.onnx', '.xml', '.pt2'):
        raise UserError(f'{path} must end in .onnx, in .xml for OpenVINO, or in .pt2 for AOTInductor')
    if path.suffix == '.pt2' and precision != 'fp32':
        raise UserError(f'a .pt2 file is in float32: export {precision} as .onnx or .xml')
    tracing = tracing or Tracing()
    metadata = tracing.described({**describe(detector, config), 'precision': precision})
    calibration = Calibration(Path(images or ''), metadata['resize']) if precision == 'int8' else None
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        result = Path(folder, 'result').with_suffix(path.suffix)
        exact, write = (Path(folder, 'exact.pt2'), write_pt2) if path.suffix == '.pt2' else (
            Path(folder, 'exact.onnx'), write_onnx)
        write(network_of(detector, tracing.stages), metadata, exact, tracing)
        differences = prove(Engine(exact), detector.backend, Limits())
        _reduce(exact, result, metadata, calibration)
        if path.suffix == '.xml' and precision == 'fp32':
            differences.add(prove(Engine(result), detector.backend, Limits()))
        accept(result)
        for written in sorted(Path(folder).glob('result.*')):  # for OpenVINO the weights (.bin) come first
            written.replace(path.with_suffix(written.suffix))
    return differences


def _reduce(exact: Path, result: Path, metadata: dict[str, Any], images: Calibration | None) -> None:
    """Convert the float32 file to the requested precision and format."""
    if result.suffix == '.xml':
        openvino_file(exact, result, metadata, metadata['precision'] == 'fp16', images)
    elif images is not None:
        onnx_int8(exact, result, images, metadata)
    elif metadata['precision'] == 'fp16':
        onnx_fp16(exact, result)
    else:
        exact.replace(result)
