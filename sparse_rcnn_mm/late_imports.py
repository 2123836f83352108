"""Lets mmdet's modules import large packages late: on first use, which for most models is never.

mmdet imports all of its parts at once, and with them packages that only a few of them call: scikit-learn for tracking
and PAA, imgaug for lanes, pyplot for plots. They took a quarter of the time until a command begins to work. Only
modules of mmdet get placeholders; all other code, which may use more than functions and classes to call, does not.

A program that only detects also does without mmengine's classes for sharded training: `quick_start`.
"""
from __future__ import annotations

import builtins
import gc
import pkgutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from importlib.abc import InspectLoader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType, SimpleNamespace
from typing import Any

LATE = ('imagecorruptions', 'imgaug', 'matplotlib.pyplot', 'scipy', 'sklearn')
# Modules of onedl-mmdetection that print a message for its developers while they are imported.
CHATTY = ('mmdet.datasets', 'mmdet.datasets.transforms')
# Modules of mmengine with one class each, which shards a model or its optimizer over GPUs.
SHARDING = {'mmengine.model.wrappers.fully_sharded_distributed': 'MMFullyShardedDataParallel',
            'mmengine._strategy.fsdp': 'FSDPStrategy',
            'mmengine.optim.optimizer.zero_optimizer': 'ZeroRedundancyOptimizer'}


class _Late:
    """A function or class that is imported when it is called."""

    def __init__(self, path: str) -> None:
        self._path = path

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return pkgutil.resolve_name(self._path)(*args, **kwargs)

    def __instancecheck__(self, instance: object) -> bool:
        return isinstance(instance, pkgutil.resolve_name(self._path))


class _LateModule(ModuleType):
    """A module that is imported when one of its attributes is used."""

    def __getattr__(self, name: str) -> Any:
        return getattr(pkgutil.resolve_name(self.__name__), name)


def _import(name: str, namespace: Mapping[str, Any] | None = None, local: Mapping[str, Any] | None = None,
            names: Sequence[str] | None = (), level: int = 0) -> Any:
    """The function behind the statement `import` in mmdet's modules."""
    if name == 'mmengine.logging' and (namespace or {}).get('__name__') in CHATTY:
        return SimpleNamespace(print_log=lambda *_, **__: None)
    top, *inner = name.split('.')
    late = level == 0 and any(f'{name}.'.startswith(f'{package}.') for package in LATE)
    if not late or find_spec(top) is None:
        return builtins.__import__(name, namespace, local, names, level)
    if names:  # from NAME import NAMES
        return SimpleNamespace(**{each: _Late(f'{name}:{each}') for each in names})
    module: Any = _LateModule(name)  # import NAME, of which Python takes the inner modules from the outermost
    for part in reversed(inner):
        module = SimpleNamespace(**{part: module})
    return module


def spec_of_others(hook: MetaPathFinder, fullname: str, path: Sequence[str] | None,
                   target: ModuleType | None) -> ModuleSpec | None:
    """What the import hooks besides `hook` find."""
    others = (finder.find_spec(fullname, path, target) for finder in sys.meta_path if finder is not hook)
    return next((spec for spec in others if spec is not None), None)


class _Finder(MetaPathFinder):
    """Import hook that gives those modules of mmdet that need it an `import` of their own."""

    def find_spec(self, fullname: str, path: Sequence[str] | None = None,
                  target: ModuleType | None = None) -> ModuleSpec | None:
        if not fullname.startswith('mmdet.'):
            return None
        spec = spec_of_others(self, fullname, path, target)
        loader = spec and spec.loader
        if isinstance(loader, InspectLoader):
            source, execute = loader.get_source(fullname) or '', loader.exec_module

            def execute_late(module: ModuleType) -> None:
                vars(module)['__builtins__'] = {**vars(builtins), '__import__': _import}
                execute(module)

            if fullname in CHATTY or any(package in source for package in LATE):
                loader.exec_module = execute_late  # type: ignore[method-assign]
        return spec


def import_late() -> None:
    """Let modules of mmdet that are imported from now on import the packages in `LATE` late."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


class _LeftOut:
    """Stands for a class that is left out."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        raise NotImplementedError(f'{type(self).__name__} is for training: a program that only detects leaves it out')


def _other(module: str, name: str) -> Any:
    """Any other name in a module that was left out: import the module."""
    if name.startswith('__'):  # which Python asks for while it imports
        raise AttributeError(name)
    del sys.modules[module]
    return getattr(import_module(module), name)


@contextmanager
def quick_start() -> Iterator[None]:
    """Import and build in this context what a program that only detects needs, in two thirds of the time.

    Leaves out the classes of `SHARDING` that are not imported yet, because their base classes take a second, and does
    not look for garbage, which takes half a second.
    """
    for name, of_class in SHARDING.items():
        module: Any = ModuleType(name)
        setattr(module, of_class, type(of_class, (_LeftOut,), {}))
        module.__getattr__ = partial(_other, name)
        sys.modules.setdefault(name, module)
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
