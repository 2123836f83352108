"""timm, where it is installed: tests of its networks are skipped elsewhere."""
from __future__ import annotations

from types import ModuleType

import pytest

from sparse_rcnn_mm.torchvision_ops import ensure_torchvision_imports


def timm_or_skip() -> ModuleType:
    ensure_torchvision_imports()
    return pytest.importorskip('timm')
