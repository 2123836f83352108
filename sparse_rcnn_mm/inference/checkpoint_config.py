"""The config inside a checkpoint, read as data.

mmengine stores it as Python text and reads it back by running it, so a checkpoint from elsewhere could run anything.
The text that it writes consists of literals and `dict(...)` only; that is all that is understood here.
"""
from __future__ import annotations

import ast
import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from mmengine.config import Config
from mmengine.registry import Registry

from sparse_rcnn_mm.errors import UserError
from sparse_rcnn_mm.registry import MODELS, SCOPE, TASK_UTILS, TRANSFORMS, WEIGHT_INITIALIZERS

_OF_A_MODEL = (MODELS, TASK_UTILS, TRANSFORMS, WEIGHT_INITIALIZERS)
_CONTAINERS = {'dict': dict, 'list': list, 'tuple': tuple, 'set': set}


def config_of(checkpoint: dict[str, Any], path: str | os.PathLike) -> Config:
    """The config that the model of a checkpoint was trained with.

    Args:
        checkpoint: contents of the file, of `read_checkpoint`.
        path: the file, for messages.

    Raises:
        UserError: there is none, or it is more than data.
    """
    text = (checkpoint.get('meta') or {}).get('cfg')
    if not isinstance(text, str) or not text.strip():
        raise UserError(f'{path} holds weights without their config: pass the one it was trained with (--config FILE)')
    try:
        return Config(read_literals(text))
    except ValueError as error:
        raise UserError(f'the config inside {path} is not plain data ({error}), and was not run: '
                        'pass the one it was trained with (--config FILE)') from error


def read_literals(text: str) -> dict[str, Any]:
    """The variables of a Python text of assignments whose values are literals and calls of dict, list, tuple and set.

    Raises:
        ValueError: the text holds anything else; none of it was run.
    """
    try:
        statements = ast.parse(text).body
        values = {}
        for statement in statements:
            if not (isinstance(statement, ast.Assign) and len(statement.targets) == 1
                    and isinstance(statement.targets[0], ast.Name)):
                raise ValueError(f'line {statement.lineno} is no assignment')
            values[statement.targets[0].id] = _value(statement.value)
        return values
    except (SyntaxError, RecursionError, MemoryError, TypeError) as error:
        raise ValueError(str(error)) from error


def _value(node: ast.expr) -> Any:
    if isinstance(node, ast.Call):
        if not isinstance(node.func, ast.Name) or node.func.id not in _CONTAINERS:
            raise ValueError(f'line {node.lineno} calls {ast.unparse(node.func)}')
        positional = [_value(argument) for argument in node.args]
        named: dict[str, Any] = {}
        for keyword in node.keywords:  # without a name it is `**{...}`
            named.update({keyword.arg: _value(keyword.value)} if keyword.arg else _value(keyword.value))
        return _CONTAINERS[node.func.id](*positional, **named)
    if isinstance(node, ast.Dict):
        if None in node.keys:
            raise ValueError(f'line {node.lineno} unpacks a dict')
        return {_value(key): _value(value) for key, value in zip(node.keys, node.values, strict=True) if key}
    if isinstance(node, (ast.List, ast.Tuple, ast.Set)):
        kind = {ast.List: list, ast.Tuple: tuple, ast.Set: set}[type(node)]
        return kind(_value(item) for item in node.elts)
    try:
        return ast.literal_eval(node)
    except ValueError:
        raise ValueError(f'line {node.lineno} has {ast.unparse(node)[:60]}') from None


def check_types(part: Any, path: str | os.PathLike, registries: Iterable[Registry] = _OF_A_MODEL) -> None:
    """Let a part of a config name only classes that are registered.

    mmengine's registries also take the path of any function of any module, e.g. `os.system`.

    Raises:
        UserError: another is named.
    """
    registered = _registered_names(registries)
    for kind in _types_in(part):
        name = kind.removeprefix(f'{SCOPE}.').removeprefix('mmdet.').removeprefix('mmengine.')
        if name not in registered:
            raise UserError(f'the config inside {path} uses {kind}, which is not registered here: import the module '
                            'that registers it, or pass a config that you trust (--config FILE)')


def _types_in(part: Any) -> Iterator[str]:
    if isinstance(part, Mapping):
        if isinstance(part.get('type'), str):
            yield part['type']
        part = part.values()
    elif not isinstance(part, (list, tuple, set)):
        return
    for item in part:
        yield from _types_in(item)


def _registered_names(registries: Iterable[Registry]) -> set[str]:
    names: set[str] = set()
    for registry in registries:
        registry.import_from_location()
        while registry is not None:
            names.update(registry.module_dict)
            registry = registry.parent
    return names
