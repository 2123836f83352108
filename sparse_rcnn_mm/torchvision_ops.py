"""Make torchvision importable when its compiled operations do not fit the installed torch.

PyPI's torchvision is built for torch with CUDA. With a CPU-only torch, its library cannot be loaded, and then `import
torchvision` raises a RuntimeError, because it registers fake kernels for operations that are not declared. timm
imports torchvision, and so does mmengine if it is installed, but this package uses none of its operations.
"""
from __future__ import annotations

import importlib.util
from functools import cache
from pathlib import Path

import torch

_NMS = '(Tensor dets, Tensor scores, float iou_threshold) -> Tensor'
_DESCRIBED = ('nms', 'qnms')  # torchvision registers these without checking for the compiled operations


@cache
def ensure_torchvision_imports() -> None:
    """Declare the operations that `import torchvision` needs, unless its library can be loaded. Calls to them fail."""
    spec = importlib.util.find_spec('torchvision')
    if spec is None or spec.origin is None:
        return
    for library in (*Path(spec.origin).parent.glob('_C*.so'), *Path(spec.origin).parent.glob('_C*.pyd')):
        try:
            torch.ops.load_library(library)
        except OSError:
            _declare()


def _declare() -> None:
    library = torch.library.Library('torchvision', 'FRAGMENT')
    for name in _DESCRIBED:
        if not hasattr(torch.ops.torchvision, name):
            library.define(name + _NMS)
    _kept.append(library)


_kept: list[torch.library.Library] = []  # garbage collection of a library would remove its declarations
