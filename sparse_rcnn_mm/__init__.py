"""Sparse R-CNN (arXiv 2011.12450) as an extension of MMDetection.

    detections = sparse_rcnn_mm.Detector.from_checkpoint('sparse_rcnn_r50_3x')('photo.jpg')
    best = sparse_rcnn_mm.train('sparse_rcnn_r50_finetune', 'my_data', load_from='sparse_rcnn_r50_3x')
    metrics = sparse_rcnn_mm.evaluate(best, 'my_data')
"""
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from .versions import __version__, check_versions

if TYPE_CHECKING:
    from .engine import evaluate as evaluate
    from .engine import train as train
    from .inference import Detector as Detector

# Imported when they are first asked for, so that importing the package stays cheap.
_LAZY = {'Detector': 'inference', 'evaluate': 'engine', 'train': 'engine'}
__all__ = ['Detector', '__version__', 'evaluate', 'train']

# Without PyTorch there is only `sparse_rcnn_mm.runtime`, which detects with exported files.
if find_spec('torch') is not None:
    from .mmcv_ops import ensure_mmcv_imports
    from .torchvision_ops import ensure_torchvision_imports

    check_versions()
    ensure_mmcv_imports()
    ensure_torchvision_imports()

    # mmengine can be imported only after its version was checked.
    from .checkpoints import allow_mmengine_checkpoints

    allow_mmengine_checkpoints()


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    return getattr(import_module(f'.{_LAZY[name]}', __name__), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
