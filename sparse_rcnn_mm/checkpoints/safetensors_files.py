"""Files of the safetensors format, which cannot contain code. The metadata of a checkpoint goes into their header."""
from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from sparse_rcnn_mm.errors import UserError

from .writing import replacing

SUFFIX = '.safetensors'
_META = 'sparse_rcnn_mm'  # the entry of the header with our metadata, as JSON
# What is kept of a checkpoint's metadata.
_KEPT = ('cfg', 'dataset_meta', 'config_name', 'backbone', 'converted_from', 'sparse_rcnn_mm_version', 'epoch', 'iter')


def _safetensors() -> ModuleType:
    try:
        import safetensors.torch
    except ImportError as error:
        raise UserError(f'{SUFFIX} files need the package safetensors ({error}): pip install safetensors') from error
    return safetensors


def read_safetensors(path: Path, map_location: Any = 'cpu') -> dict[str, Any]:
    """Read a file as the contents of a checkpoint: `state_dict`, and `meta` if this package wrote the file.

    Raises:
        UserError: the package safetensors is missing. (A damaged file may raise any exception.)
    """
    safetensors = _safetensors()
    with safetensors.safe_open(path, framework='pt', device='cpu') as file:
        metadata = file.metadata() or {}
        state = {name: file.get_tensor(name).to(map_location or 'cpu') for name in file.keys()}
    meta = json.loads(metadata.get(_META, '{}'))
    if not isinstance(meta, dict):
        raise ValueError('the metadata is not a dict')
    return {'state_dict': state, 'meta': meta}


def write_safetensors(state: Mapping[str, Tensor], meta: Mapping[str, Any], path: str | os.PathLike) -> None:
    """Write tensors, and what is needed of a checkpoint's metadata. `path` is replaced when the new file is complete.

    Raises:
        UserError: the package safetensors is missing, or the file cannot be written.
    """
    safetensors, path = _safetensors(), Path(path)
    try:
        text = json.dumps({key: meta[key] for key in _KEPT if key in meta})  # tuples become lists
    except (TypeError, ValueError, RecursionError) as error:
        raise UserError(f'the metadata for {path} holds more than text, numbers and lists ({error})') from error
    own = {name: value.detach().cpu().clone(memory_format=torch.contiguous_format) for name, value in state.items()}
    try:
        with replacing(path) as unfinished:
            safetensors.torch.save_file(own, unfinished, {'format': 'pt', _META: text})
    except (OSError, safetensors.SafetensorError) as error:
        raise UserError(f'{path} cannot be written ({error})') from error
