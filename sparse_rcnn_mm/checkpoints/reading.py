"""Reads checkpoint files without running code that may be hidden in them.

A pickle can refer to any Python object. torch's `weights_only` mode allows tensors and plain containers. Checkpoints of
mmengine also contain its log buffers and schedules, which are allowed here by name. Nothing else is allowed, and
nothing falls back to unsafe loading.
"""
from __future__ import annotations

import errno
import io
import os
import pickle
import re
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.logging import HistoryBuffer
from mmengine.optim import OneCycleParamScheduler
from torch import Tensor

from sparse_rcnn_mm.errors import UserError

from .hub import read_folder
from .safetensors_files import SUFFIX, read_safetensors
from .weights import local_checkpoint

try:  # NumPy 2 moved it, so files of the two versions refer to different paths
    from numpy._core import multiarray
except ImportError:
    from numpy.core import multiarray  # type: ignore[no-redef]

_NUMPY = {
    f'numpy.{core}.multiarray.{name}': getattr(multiarray, name)
    for core in ('core', '_core') for name in ('_reconstruct', 'scalar')
}


# What `getattr` in a pickle may return: a statistic of a log buffer, or the curve of a one-cycle schedule.
_METHODS: dict[Any, tuple[str, ...]] = {
    HistoryBuffer: ('min', 'max', 'mean', 'current'),
    OneCycleParamScheduler: ('_annealing_cos', '_annealing_linear'),
}


def _method(owner: Any, name: str) -> Callable:
    """`getattr`, restricted to `_METHODS`."""
    if not isinstance(owner, type) or name not in _METHODS.get(owner, ()):
        raise pickle.UnpicklingError(f'getattr({owner!r}, {name!r}) is not part of a log buffer or schedule')
    return getattr(owner, name)


def _under_name(function: Callable, path: str) -> Callable:
    """Wrap a function so that torch finds it under the name `path`."""

    def admitted(*args: Any) -> Any:
        return function(*args)

    admitted.__module__, _, admitted.__name__ = path.rpartition('.')
    admitted.__qualname__ = admitted.__name__
    return admitted


def _safe_globals() -> list[Any]:
    dtypes = {type(np.dtype(kind)) for kind in ('?', 'u1', 'i4', 'u4', 'i8', 'u8', 'f2', 'f4', 'f8')}
    functions = {**_NUMPY, 'builtins.getattr': _method}
    return [*_METHODS, np.ndarray, np.dtype, *dtypes, *(_under_name(f, path) for path, f in functions.items())]


torch.serialization.add_safe_globals(_safe_globals())


def read_checkpoint(path: str | os.PathLike, map_location: Any = 'cpu') -> dict[str, Any]:
    """Read a `.pth` file of torch, a `.safetensors` file, or a `.pkl` file of detectron2, whose arrays become tensors.

    `path` may also be a folder with a published model, an address, or the name of published weights.

    Raises:
        UserError: the file is missing, cannot be fetched, is damaged, or contains more than data.
    """
    path = local_checkpoint(path)
    try:
        contents = _read(path, map_location)
    except UserError:
        raise
    except OSError as error:
        raise UserError(f'{path} cannot be read: {error}') from error
    except Exception as error:  # a damaged pickle can raise anything
        named = re.search(r'GLOBAL (\S+)|getattr\(', str(error))
        if named:
            raise UserError(f'{path} was not loaded, because it contains more than data ({named[1] or "getattr"}) and '
                            'could run code while it loads: ask its author for a file with only weights') from error
        raise UserError(f'{path} is not a checkpoint, or is damaged: fetch it again') from error
    if not isinstance(contents, dict):
        raise UserError(f'{path} contains a {type(contents).__name__}, not a checkpoint')
    if odd := [name for name, value in state_dict_of(contents).items() if not _is_plain(value)]:
        raise UserError(f'{path} contains the weight {odd[0][:100]}, which is not a plain tensor of numbers')
    if isinstance(contents.get('meta'), dict):
        contents['meta'].pop('config', None)  # Python code of mmdet 2.x, which mmengine would run on resuming
    return contents


def _read(path: Path, map_location: Any) -> Any:
    if path.is_dir():
        return read_folder(path, map_location)
    if path.suffix == SUFFIX:
        return read_safetensors(path, map_location)
    if path.suffix == '.pkl':
        return _to_tensors(load_data_pickle(path.read_bytes(), encoding='latin1'))
    _check_records(path)
    return torch.load(path, map_location=map_location, weights_only=True)


def _is_plain(tensor: Tensor) -> bool:
    return not (tensor.is_nested or tensor.layout != torch.strided or tensor.is_quantized or tensor.is_meta
                or tensor.is_complex())


def _check_records(path: Path) -> None:
    """Check the CRC-32 of every record of a file of torch >= 1.6. `torch.load` does not check them.

    Raises:
        zipfile.BadZipFile: the file was changed or truncated after it was written.
    """
    if not zipfile.is_zipfile(path):
        return  # the format from before torch 1.6, or not a checkpoint: left to torch.load
    with zipfile.ZipFile(path) as file:
        try:
            damaged = file.testzip()
        except OSError as error:
            if error.errno != errno.EINVAL:  # an offset before the start of the file
                raise
            damaged = 'the list of records'
    if damaged is not None:
        raise zipfile.BadZipFile(f'the checksum of {damaged} does not match')


def load_data_pickle(data: bytes, encoding: str = 'ASCII') -> Any:
    """Unpickle numbers, strings, containers, NumPy arrays and tensors.

    Raises:
        pickle.UnpicklingError: the pickle refers to anything else, which could run code. (A damaged pickle may raise
            any exception.)
    """
    return _DataUnpickler(io.BytesIO(data), encoding=encoding).load()


class _DataUnpickler(pickle.Unpickler):

    _ADMITTED: dict[str, Any] = {}

    def find_class(self, module: str, name: str) -> Any:
        try:
            return self._ADMITTED[f'{module}.{name}']
        except KeyError:
            raise pickle.UnpicklingError(f'GLOBAL {module}.{name} is more than data') from None


def _load_tensor_storage(data: bytes) -> Any:
    return torch.load(io.BytesIO(data), weights_only=True)


def _encode(text: str, encoding: str) -> bytes:
    """The function that pickles of protocol 2 call to make bytes."""
    return text.encode(encoding)


_DataUnpickler._ADMITTED = {
    **_NUMPY, 'numpy.ndarray': np.ndarray, 'numpy.dtype': np.dtype, 'collections.OrderedDict': OrderedDict,
    '_codecs.encode': _encode, 'torch._utils._rebuild_tensor_v2': torch._utils._rebuild_tensor_v2,
    'torch.storage._load_from_bytes': _load_tensor_storage}


def _to_tensors(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _to_tensors(item) for key, item in value.items()}
    return torch.from_numpy(np.array(value)) if isinstance(value, (np.ndarray, np.number)) else value


def state_dict_of(checkpoint: dict[str, Any]) -> dict[str, Tensor]:
    """Return the tensors of a checkpoint by name, without the usual wrappers and the prefix of data parallel models."""
    state = checkpoint
    for wrapper in ('state_dict', 'model'):
        if isinstance(state.get(wrapper), dict):
            state = state[wrapper]
    return {str(name).removeprefix('module.'): value for name, value in state.items() if isinstance(value, Tensor)}
