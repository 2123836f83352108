"""Makes mmcv and mmdet importable if mmcv was installed without its compiled operations.

`import mmdet.models` imports `mmcv.ops`, which imports the extension module `mmcv._ext`. This package uses none of its
operations, so a placeholder module is enough. Every attribute of it is a function that raises an error when called.
"""
from __future__ import annotations

import importlib.machinery
import importlib.util
import sys
import types
from collections.abc import Callable
from typing import Any, NoReturn

_EXTENSION = 'mmcv._ext'


class _MissingOps(types.ModuleType):

    def __getattr__(self, name: str) -> Callable[..., NoReturn]:
        if name.startswith('__'):
            raise AttributeError(name)

        def unavailable(*_: Any, **__: Any) -> NoReturn:
            raise NotImplementedError(f'mmcv was installed without compiled ops: {name} is unavailable')

        return unavailable


def ensure_mmcv_imports() -> None:
    """Put the placeholder into `sys.modules`, unless mmcv has compiled operations. Call this before importing mmdet.

    mmcv itself is not imported for it.
    """
    mmcv = importlib.util.find_spec('mmcv')
    if mmcv is None or _EXTENSION in sys.modules:
        return
    if importlib.machinery.PathFinder.find_spec(_EXTENSION, mmcv.submodule_search_locations) is not None:
        return
    placeholder = _MissingOps(_EXTENSION)
    # A spec without a loader tells mmcv's and mmengine's own checks that there are no compiled operations.
    placeholder.__spec__ = importlib.machinery.ModuleSpec(_EXTENSION, None)
    sys.modules[_EXTENSION] = placeholder
