"""Loads PyTorch and the mm packages late, so that code that does not need them works without them.

`import sparse_rcnn_mm` imports none of them. It installs a placeholder for mmcv's compiled operations, and an import
hook that runs before Python's own finders. The hook finds no modules itself; it only watches imports. Before a module
of this package that needs the stack is imported, it checks the versions. After mmengine is imported, it connects
mmengine to this package. Registering classes needs no hook: mmengine imports `sparse_rcnn_mm.registry` itself as soon
as a config names the scope.
"""
from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from .errors import UserError
from .late_imports import import_late, spec_of_others
from .mmcv_ops import ensure_mmcv_imports
from .versions import check_versions

PACKAGE = 'sparse_rcnn_mm'
# Modules that can be imported without the stack. All others need it.
LIGHT = {
    'cli', 'cli.archives', 'cli.commands', 'cli.doctor', 'cli.download_coco', 'cli.download_voc', 'cli.environment',
    'cli.infer', 'cli.parser', 'cli.tta_arguments', 'config_files', 'datasets', 'datasets.decoding',
    'datasets.image_files', 'datasets.read_image', 'datasets.scan', 'downloads', 'errors', 'inference',
    'inference.contents', 'inference.conversions', 'inference.detections', 'inference.exported', 'inference.formats',
    'inference.names', 'inference.outputs', 'inference.progress', 'inference.records', 'inference.resuming',
    'inference.run', 'inference.sources', 'late_imports', 'lazy', 'mmcv_ops', 'own_outputs', 'runtime',
    'runtime.detector', 'runtime.engines', 'runtime.masks', 'runtime.metadata', 'runtime.openvino_file',
    'runtime.preprocessing', 'stack', 'terminal', 'versions', 'visualization', 'visualization.contact_sheet',
    'visualization.draw', 'visualization.letters', 'visualization.masks', 'visualization.stages'}


class _Watcher(MetaPathFinder):
    """Import hook that sees the name of each module before it is imported."""

    def find_spec(self, fullname: str, path: Sequence[str] | None = None,
                  target: ModuleType | None = None) -> ModuleSpec | None:
        package, _, module = fullname.partition('.')
        if package == PACKAGE and module and module not in LIGHT:
            check_versions()
        if fullname != 'mmengine':
            return None
        spec = spec_of_others(self, fullname, path, target)
        if spec is not None and spec.loader is not None:
            _call_after(spec.loader, _connect_or_warn)
        return spec


_WATCHER = _Watcher()


def prepare() -> None:
    """Set up the package; called by `import sparse_rcnn_mm`.

    Raises:
        VersionError: mmengine was imported before, and a package is missing or has an untested version.
    """
    ensure_mmcv_imports()
    import_late()
    if 'mmengine' in sys.modules:
        connect()
    else:
        sys.meta_path.insert(0, _WATCHER)


def connect() -> None:
    """Let mmengine read checkpoints safely and find the configs of this package.

    Raises:
        VersionError: a package is missing or has an untested version.
    """
    check_versions()
    from mmengine.config.utils import MODULE2PACKAGE
    from mmengine.runner import CheckpointLoader
    from mmengine.runner import checkpoint as mmengine_checkpoint

    from .torchvision_ops import ensure_torchvision_imports

    ensure_torchvision_imports()  # mmengine's Runner imports torchvision if it is installed
    # Allows `_base_ = 'sparse_rcnn_mm::configs/sparse_rcnn_r50_3x.py'` in any config. It names a module instead of the
    # package, because mmengine 0.10.7 looks for packages in site-packages, where `pip install -e` does not put them.
    MODULE2PACKAGE.setdefault(PACKAGE, f'{PACKAGE}.registry')
    # Upstream mmengine 0.10.7 cannot resume under torch >= 2.6, because safe loading rejects its log buffers;
    # onedl-mmengine falls back to unsafe loading of every file that safe loading rejects.
    CheckpointLoader.register_scheme(prefixes=('', 'http://', 'https://'), loader=load_from_file, force=True)
    mmengine_checkpoint.load_from_http = load_from_file  # for torchvision:// and mmcls://
    CheckpointLoader.register_scheme(prefixes=('open-mmlab://', 'openmmlab://'), loader=load_by_name, force=True)
    CheckpointLoader.register_scheme(
        prefixes=(r'(\S+\:)?s3://', r'(\S+\:)?petrel://', 'pavi://'), loader=refuse_storage, force=True)
    CheckpointLoader.register_scheme(prefixes='package://', loader=load_from_package, force=True)
    if _WATCHER in sys.meta_path:
        sys.meta_path.remove(_WATCHER)


def _connect_or_warn() -> None:
    """Call `connect`, but only warn about errors: mmengine may have been imported by unrelated code."""
    try:
        connect()
    except ImportError as error:
        warnings.warn(str(error), stacklevel=2)


def load_from_file(filename: str, map_location: Any = None) -> dict[str, Any]:
    """Read a checkpoint for mmengine by `checkpoints.read_checkpoint`, which is imported on first use."""
    return import_module(f'{PACKAGE}.checkpoints').read_checkpoint(filename, map_location)


def load_by_name(address: str, map_location: Any = None) -> dict[str, Any]:
    """Read weights by mmengine's name for an address, or for a file in mmengine's folder, as `load_from_file` does."""
    from mmengine.runner import checkpoint

    name = address.partition('://')[2]
    place = checkpoint.get_external_models()[checkpoint.get_deprecated_model_names().get(name, name)]
    return load_from_file(place if '://' in place else os.path.join(checkpoint._get_mmengine_home(), place),
                          map_location)


def refuse_storage(address: str, map_location: Any = None) -> dict[str, Any]:
    """Refuse weights on storage from which only mmengine's unsafe loaders can read."""
    raise UserError(f'weights are not read from {address}: copy the file to this machine and pass its path')


def load_from_package(address: str, map_location: Any = None) -> dict[str, Any]:
    """Read pretrained weights that come with an installed Python package, for mmengine."""
    return import_module(f'{PACKAGE}.backbones.packaged').read_packaged(address, map_location)


def _call_after(loader: Any, then: Any) -> None:
    """Make a loader call `then` after it executes its next module."""
    execute = loader.exec_module

    def execute_and_call(module: ModuleType) -> None:
        loader.exec_module = execute
        execute(module)
        then()

    loader.exec_module = execute_and_call
