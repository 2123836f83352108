"""Out of PyTorch: a detector as a file for other engines, with a proof that it detects the same."""
from __future__ import annotations

import os
from pathlib import Path

from sparse_rcnn_mm.errors import UserError
from sparse_rcnn_mm.inference import Detector
from sparse_rcnn_mm.runtime import Engine

from .description import describe, network_of
from .onnx_file import write_onnx
from .proof import Differences, Limits, prove

__all__ = ['export_onnx']


def export_onnx(detector: Detector, path: str | os.PathLike) -> Differences:
    """Write a detector as one ONNX file, and prove that ONNX Runtime finds with it what PyTorch does.

    Args:
        detector: `Detector.from_checkpoint(..., device='cpu', fast=False)`.
        path: of the file.

    Returns:
        The largest differences.

    Raises:
        UserError: the detector cannot be exported, or the file detects something else; there is no file then.
    """
    path = Path(path)
    if path.suffix != '.onnx':
        raise UserError(f'{path} must end in .onnx')
    path.parent.mkdir(parents=True, exist_ok=True)
    unproven = path.with_name(f'{path.stem}.unproven.onnx')
    try:
        write_onnx(network_of(detector), describe(detector), unproven)
        differences = prove(Engine(unproven), detector.backend, Limits())
        unproven.replace(path)
    finally:
        unproven.unlink(missing_ok=True)
    return differences
