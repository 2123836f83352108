"""Sparse R-CNN (arXiv 2011.12450) as an extension of MMDetection."""
from importlib.util import find_spec

from .versions import __version__, check_versions

__all__ = ['__version__']

# Without PyTorch there is only `sparse_rcnn_mm.runtime`, which detects with exported files.
if find_spec('torch') is not None:
    from .mmcv_ops import ensure_mmcv_imports

    check_versions()
    ensure_mmcv_imports()

    # mmengine can be imported only after its version was checked.
    from .checkpoints import allow_mmengine_checkpoints

    allow_mmengine_checkpoints()
