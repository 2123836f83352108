"""Read checkpoint files without running code that may be hidden in them.

A pickle can name any Python object. torch's `weights_only` mode admits tensors and plain containers; checkpoints of
mmengine also hold its log buffers and schedules, which are admitted here by name, and nothing else is. Nothing falls
back to unsafe loading.
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
from mmengine.runner import CheckpointLoader
from torch import Tensor

from sparse_rcnn_mm.errors import UserError

from .weights import local_checkpoint

try:  # numpy 2 moved it, and files of both versions name it by the path of their own
    from numpy._core import multiarray
except ImportError:
    from numpy.core import multiarray  # type: ignore[no-redef]

_NUMPY = {
    f'numpy.{core}.multiarray.{name}': getattr(multiarray, name)
    for core in ('core', '_core') for name in ('_reconstruct', 'scalar')
}


# What `getattr` in a pickle may stand for: a statistic of a log buffer, or the curve of a one-cycle schedule.
_METHODS: dict[Any, tuple[str, ...]] = {
    HistoryBuffer: ('min', 'max', 'mean', 'current'),
    OneCycleParamScheduler: ('_annealing_cos', '_annealing_linear'),
}


def _method(owner: Any, name: str) -> Callable:
    """`getattr` for `_METHODS` only."""
    if not isinstance(owner, type) or name not in _METHODS.get(owner, ()):
        raise pickle.UnpicklingError(f'getattr({owner!r}, {name!r}) is not part of a log buffer or schedule')
    return getattr(owner, name)


def _under_name(function: Callable, path: str) -> Callable:
    """A function that torch knows by `path`, whatever its own name is."""

    def admitted(*args: Any) -> Any:
        return function(*args)

    admitted.__module__, _, admitted.__name__ = path.rpartition('.')
    admitted.__qualname__ = admitted.__name__
    return admitted


def _safe_globals() -> list[Any]:
    dtypes = {type(np.dtype(kind)) for kind in ('?', 'u1', 'i4', 'u4', 'i8', 'u8', 'f2', 'f4', 'f8')}
    functions = {**_NUMPY, 'builtins.getattr': _method}
    return [*_METHODS, np.ndarray, np.dtype, *dtypes, *(_under_name(f, path) for path, f in functions.items())]


def allow_mmengine_checkpoints() -> None:
    """Make mmengine read local and downloaded checkpoints through `read_checkpoint`; calling it twice does no harm.

    Upstream mmengine 0.10.7 cannot resume under torch >= 2.6, because its log buffers are not admitted; onedl-mmengine
    falls back to unsafe loading of any file that is not. mmengine's registry of loaders is where both are replaced.
    """
    if CheckpointLoader._schemes.get('') is load_from_local:
        return
    torch.serialization.add_safe_globals(_safe_globals())
    CheckpointLoader.register_scheme(prefixes='', loader=load_from_local, force=True)
    CheckpointLoader.register_scheme(prefixes=('http://', 'https://'), loader=load_from_http, force=True)


def load_from_local(filename: str, map_location: Any = None) -> dict[str, Any]:
    """mmengine's interface to `read_checkpoint`."""
    return read_checkpoint(filename, map_location)


def load_from_http(filename: str, map_location: Any = None) -> dict[str, Any]:
    """mmengine's interface to `read_checkpoint` for an address."""
    return read_checkpoint(filename, map_location)


def read_checkpoint(path: str | os.PathLike, map_location: Any = 'cpu') -> dict[str, Any]:
    """The contents of a `.pth` file of torch, or of a `.pkl` file of detectron2 whose arrays become tensors.

    The file may also be given by an address, or by the name of published weights.

    Raises:
        UserError: there is no such file, it cannot be fetched, it is damaged, or it holds objects other than data.
    """
    path = local_checkpoint(path)
    allow_mmengine_checkpoints()
    try:
        if path.suffix == '.pkl':
            contents = _to_tensors(load_data_pickle(path.read_bytes(), encoding='latin1'))
        else:
            _check_records(path)
            contents = torch.load(path, map_location=map_location, weights_only=True)
    except OSError as error:
        raise UserError(f'{path} cannot be read: {error}') from error
    except Exception as error:  # a damaged pickle can raise anything
        named = re.search(r'GLOBAL (\S+)|getattr\(', str(error))
        if named:
            raise UserError(f'{path} was not loaded, because it holds more than data ({named[1] or "getattr"}) and '
                            'could run code while it loads: ask whoever made it for one with weights only') from error
        raise UserError(f'{path} is not a checkpoint, or it is damaged: fetch it again') from error
    if not isinstance(contents, dict):
        raise UserError(f'{path} holds a {type(contents).__name__}, not a checkpoint')
    if isinstance(contents.get('meta'), dict):
        contents['meta'].pop('config', None)  # Python text of mmdet 2.x that mmengine would run when it resumes
    return contents


def _check_records(path: Path) -> None:
    """Compare every record of a file of torch >= 1.6 with its CRC-32, which `torch.load` does not.

    Raises:
        zipfile.BadZipFile: the file was changed or cut off after it was written.
    """
    if not zipfile.is_zipfile(path):
        return  # torch's format of before 1.6, or no checkpoint: torch.load tells
    with zipfile.ZipFile(path) as file:
        try:
            damaged = file.testzip()
        except OSError as error:
            if error.errno != errno.EINVAL:  # a place before the file's start
                raise
            damaged = 'the list of records'
    if damaged is not None:
        raise zipfile.BadZipFile(f'the checksum of {damaged} does not match')


def load_data_pickle(data: bytes, encoding: str = 'ASCII') -> Any:
    """Unpickle numbers, text, containers, numpy arrays and tensors.

    Raises:
        pickle.UnpicklingError: the pickle names anything else, which could run code; or it is damaged in another way,
            which may raise any exception.
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
    """How pickles of protocol 2 write bytes."""
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
    """The tensors of a checkpoint by name, out of any usual wrapper, without the prefix of data parallel models."""
    state = checkpoint
    for wrapper in ('state_dict', 'model'):
        if isinstance(state.get(wrapper), dict):
            state = state[wrapper]
    return {name.removeprefix('module.'): value for name, value in state.items() if isinstance(value, Tensor)}
