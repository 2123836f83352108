"""Make torchvision importable when its compiled operations do not fit the installed torch.

The torchvision of PyPI is made for torch with CUDA. Beside a torch for CPUs its library cannot be loaded, and then
`import torchvision` ends in a RuntimeError, because it describes operations to the compiler that nobody has declared.
timm imports torchvision, and mmengine does where it is there, but this package uses none of its operations.
"""
from __future__ import annotations

import importlib.util
from functools import cache
from pathlib import Path

import torch

_NMS = '(Tensor dets, Tensor scores, float iou_threshold) -> Tensor'
_DESCRIBED = ('nms', 'qnms')  # without asking whether the compiled operations are there


@cache
def ensure_torchvision_imports() -> None:
    """Declare what `import torchvision` needs, unless its library can be loaded. Calling it is an error of torch's."""
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


_kept: list[torch.library.Library] = []  # a library that is collected takes its declarations with it
