"""Sparse R-CNN (arXiv 2011.12450) as an extension of MMDetection."""
from .mmcv_ops import ensure_mmcv_imports
from .versions import __version__, check_versions

__all__ = ['__version__']

check_versions()
ensure_mmcv_imports()

# mmengine can be imported only after its version was checked.
from .checkpoints import allow_mmengine_checkpoints  # noqa: E402

allow_mmengine_checkpoints()
