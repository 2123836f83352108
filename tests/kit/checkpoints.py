"""Comparing checkpoints."""
from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from sparse_rcnn_mm.checkpoints import read_checkpoint

_COMPARED = ('state_dict', 'ema_state_dict', 'optimizer', 'param_schedulers', 'training_state')


def differences(one: Path, other: Path) -> list[str]:
    """Names of the values in which two checkpoints differ by a bit or more; times, paths and logs are not compared."""
    first, second = (dict(_flat(_training(path), '')) for path in (one, other))
    assert first
    return sorted(first.keys() ^ second.keys()) + [
        name for name in first.keys() & second.keys() if not _equal(first[name], second[name])]


def _training(path: Path) -> dict[str, Any]:
    contents = read_checkpoint(path)
    counters = {name: contents['meta'].get(name) for name in ('iter', 'epoch', 'seed')}
    return {'counters': counters, **{name: contents[name] for name in _COMPARED if name in contents}}


def _flat(value: Any, name: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, (dict, list, tuple)):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _flat(item, f'{name}.{key}')
    else:
        yield name, value


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and torch.equal(one, other)
    return type(one) is type(other) and one == other
