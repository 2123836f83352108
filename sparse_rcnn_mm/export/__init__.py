"""Out of PyTorch: a detector as a file for other engines, with a proof that it detects the same."""
from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from sparse_rcnn_mm.errors import UserError
from sparse_rcnn_mm.inference import Detector
from sparse_rcnn_mm.runtime import Engine

from .description import describe, network_of
from .onnx_file import write_onnx
from .proof import Differences, Limits, prove
from .reduced import Calibration, onnx_fp16, onnx_int8, openvino_file

__all__ = ['Calibration', 'export']


def export(detector: Detector, path: str | os.PathLike, config: str | None = None, precision: str = 'fp32',
           images: str | os.PathLike | None = None, accept: Callable[[Path], None] = lambda _: None) -> Differences:
    """Write a detector as a file for other engines, and prove that it finds what PyTorch does.

    The proof is on the file in float32. What less precision costs is for `accept` to measure.

    Args:
        detector: `Detector.from_checkpoint(..., device='cpu', fast=False)`.
        path: of the file: .onnx, or .xml for OpenVINO, whose weights are in a .bin beside it.
        config: text of the detector's config, with which the file can be tested.
        precision: 'fp32'; 'fp16' for weights; or 'int8' for convolutions.
        images: folder of images that calibrate 'int8'.
        accept: called with the file before it gets its name; raises where it is not good enough.

    Returns:
        The largest differences.

    Raises:
        UserError: the detector cannot be exported, or the file detects something else; there is no file then.
    """
    path = Path(path)
    if path.suffix not in ('.onnx', '.xml'):
        raise UserError(f'{path} must end in .onnx, or in .xml for OpenVINO')
    metadata = {**describe(detector, config), 'precision': precision}
    calibration = Calibration(Path(images or ''), metadata['resize']) if precision == 'int8' else None
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        exact, result = Path(folder, 'exact.onnx'), Path(folder, 'result').with_suffix(path.suffix)
        write_onnx(network_of(detector), metadata, exact)
        differences = prove(Engine(exact), detector.backend, Limits())
        if path.suffix == '.xml':
            openvino_file(exact, result, metadata, precision == 'fp16', calibration)
        elif calibration is not None:
            onnx_int8(exact, result, calibration, metadata)
        elif precision == 'fp16':
            onnx_fp16(exact, result)
        else:
            exact.replace(result)
        if path.suffix == '.xml' and precision == 'fp32':
            differences.add(prove(Engine(result), detector.backend, Limits()))
        accept(result)
        for written in sorted(Path(folder).glob('result.*')):  # of OpenVINO's two files, the weights first
            written.replace(path.with_suffix(written.suffix))
    return differences
