"""Checks the state of a training in a checkpoint, which may come from an untrusted source, before it is used.

mmengine and PyTorch set attributes by the names in a checkpoint, remove the files that it names, and index memory by
its numbers. All functions here raise ValueError if the state is malformed.
"""
from __future__ import annotations

import re
from collections.abc import Mapping
from numbers import Real
from pathlib import PurePath
from typing import Any

import numpy as np
import torch
from mmengine.logging import HistoryBuffer
from mmengine.optim import _ParamScheduler
from torch import Tensor

_LARGEST = 1 << 40
# Parts of an optimizer's state that have the shape of their weight.
_LIKE_WEIGHTS = ('exp_avg', 'exp_avg_sq', 'max_exp_avg_sq', 'momentum_buffer')
_MT19937_WORDS = 624


def checked_message_hub(hub: Any, iteration: int) -> dict[str, Any]:
    """Return log buffers and runtime information, in which checkpoints have a file name instead of a path.

    The hook for checkpoints removes the files that it finds there, such as the one that was the best before.

    Args:
        iteration: that of the checkpoint. Only this one can have been stopped.
    """
    if not (isinstance(hub, Mapping) and all(_is_named(hub.get(key)) for key in (
            'log_scalars', 'runtime_info', 'resumed_keys'))):
        raise ValueError('message_hub lacks log_scalars, runtime_info or resumed_keys')
    logs = {name: _checked_buffer(name, buffer) for name, buffer in hub['log_scalars'].items()}
    info = {key: _checked_info(key, value) for key, value in hub['runtime_info'].items()}
    if info.get('stopped_ckpt') != f'iter_{iteration}.pth':
        info.pop('stopped_ckpt', None)
    return {'log_scalars': logs, 'runtime_info': info,
            'resumed_keys': {key: bool(value) for key, value in hub['resumed_keys'].items() if key in {*info, *logs}}}


def _is_named(part: Any) -> bool:
    return isinstance(part, Mapping) and all(isinstance(key, str) for key in part)


def _checked_buffer(name: str, buffer: Any) -> HistoryBuffer:
    """A new log buffer with the same numbers: one from a file may have other methods."""
    arrays = buffer.data if isinstance(buffer, HistoryBuffer) else ()
    if not (len({len(array) for array in arrays}) == 1 and all(
            isinstance(array, np.ndarray) and array.ndim == 1 and array.dtype.kind in 'biuf' for array in arrays)):
        raise ValueError(f'{name!r} in message_hub is not a log buffer')
    return HistoryBuffer(*arrays, max_length=int(buffer.max_length))


def _checked_info(key: str, value: Any) -> Any:
    if key == 'keep_ckpt_ids' and not (isinstance(value, list) and all(type(step) is int for step in value)):
        raise ValueError('keep_ckpt_ids is not a list of iterations or epochs')
    if (key == 'eta' or key.startswith('best_score')) and not _is_number(value):
        raise ValueError(f'{key} is not a number')
    if key == 'outdated_ckpts':
        names = [PurePath(path).name for path in value if isinstance(path, str)] if isinstance(value, list) else []
        return [name for name in names if re.fullmatch(r'(iter|epoch)_\d+\.pth|best_[^\0]*\.pth', name)]
    if not key.startswith('best_ckpt') or value is None:
        return value
    name = PurePath(value).name if isinstance(value, str) else ''
    if not re.fullmatch(r'best_[^\0]*\.pth', name):
        raise ValueError(f'{key} is not the name of a best checkpoint')
    return name


def _is_number(value: Any) -> bool:
    return (isinstance(value, Real) and not isinstance(value, bool)) or (
        isinstance(value, Tensor) and value.numel() == 1)


def check_optimizer(optimizer: torch.optim.Optimizer) -> None:
    """Check the state that was loaded into an optimizer."""
    for group in optimizer.param_groups:
        for weight in group['params']:
            for name, value in optimizer.state.get(weight, {}).items():
                if name in _LIKE_WEIGHTS and not (isinstance(value, Tensor) and value.shape == weight.shape):
                    raise ValueError(f'{name} of the optimizer has another shape than its weight')


def load_schedule(scheduler: _ParamScheduler, state: Any) -> None:
    """Load the state of a schedule of the same kind. Functions are not taken from it."""
    own = scheduler.state_dict()
    if not isinstance(state, Mapping) or state.keys() != own.keys():
        raise ValueError('the state of a schedule has other entries')
    for key, value in own.items():
        if not _is_alike(value, state[key]):
            raise ValueError(f'{key} of a schedule is a {type(state[key]).__name__}')
    scheduler.load_state_dict({key: state[key] for key, value in own.items() if not callable(value)})


def _is_alike(own: Any, other: Any) -> bool:
    """Whether two values are of one kind. None may become anything that is plain, and the other way around."""
    if own is None or other is None or callable(own):
        return own is not None or isinstance(other, str | Real | None)
    if isinstance(own, (list, tuple)):
        return isinstance(other, (list, tuple)) and len(own) == len(other) and all(map(_is_alike, own, other))
    return isinstance(other, Real) if isinstance(own, Real) else isinstance(other, type(own))


def checked_counters(values: Any, names: tuple[str, ...]) -> dict[str, float]:
    """Return the numbers with these names, without anything else."""
    if not isinstance(values, Mapping) or not all(_is_number(values.get(name)) for name in names):
        raise ValueError(f'the counters {", ".join(names)} are not numbers')
    return {name: values[name] for name in names}


def checked_numpy_state(state: Any) -> tuple[Any, ...]:
    """Return a random state for `numpy.random.set_state`, which does not check the position in the array."""
    kind, keys, position, has_gauss, gauss = state
    words = keys.cpu().numpy().astype(np.uint32)
    if (kind != 'MT19937' or words.shape != (_MT19937_WORDS,) or type(position) is not int
            or not 0 <= position <= _MT19937_WORDS or has_gauss not in (0, 1) or not isinstance(gauss, float)):
        raise ValueError('the random state of NumPy is malformed')
    return kind, words, position, has_gauss, gauss


def check_meta(meta: Mapping[str, Any]) -> None:
    """Check the counters and the seed of a checkpoint."""
    for name in ('iter', 'epoch'):
        if not 0 <= meta[name] < _LARGEST:
            raise ValueError(f'{name} {meta[name]} is not a count')
    if 'seed' in meta and not (type(meta['seed']) is int and 0 <= meta['seed'] < 1 << 32):
        raise ValueError('seed is not a whole number from 0 to 2**32 - 1')
