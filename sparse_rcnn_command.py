"""The command `sparse-rcnn`.

It stands outside of the package, because importing `sparse_rcnn_mm` needs torch and the mm packages in versions that
fit: help must not wait for them, and `sparse-rcnn doctor` must run where they are missing.
"""
from __future__ import annotations

import sys
from collections.abc import Callable
from importlib.util import find_spec, module_from_spec

PACKAGE = 'sparse_rcnn_mm'


def without_stack() -> Callable[[], None]:
    """Let modules of the package be imported before the package itself; returns what imports that later."""
    if PACKAGE in sys.modules:
        return lambda: None
    spec = find_spec(PACKAGE)
    assert spec is not None and spec.loader is not None
    package = sys.modules[PACKAGE] = module_from_spec(spec)  # found, but its __init__ is not run yet
    loader = spec.loader
    return lambda: loader.exec_module(package)


def main() -> int:
    """Run the command line; returns the exit status."""
    import_package = without_stack()
    from sparse_rcnn_mm.cli.commands import run
    return run(sys.argv[1:], import_package)


if __name__ == '__main__':
    sys.exit(main())
