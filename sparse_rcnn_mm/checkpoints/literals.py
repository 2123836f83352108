"""Reads Python text that consists of literals, without running it.

mmengine stores the config of a training in its checkpoints as Python text, and reads it back by running it. That text
consists of assignments of literals and of calls of `dict`, `list`, `tuple` and `set`. Nothing else is accepted here.
"""
from __future__ import annotations

import ast
from typing import Any

_CONTAINERS = {'dict': dict, 'list': list, 'tuple': tuple, 'set': set}


def read_literals(text: str) -> dict[str, Any]:
    """Return the variables that the assignments in a text set.

    Raises:
        ValueError: the text contains anything but assignments of literals and of calls of dict, list, tuple and set.
    """
    try:
        values = {}
        for statement in ast.parse(text).body:
            if not (isinstance(statement, ast.Assign) and len(statement.targets) == 1
                    and isinstance(statement.targets[0], ast.Name)):
                raise ValueError(f'line {statement.lineno} is not an assignment')
            values[statement.targets[0].id] = _value(statement.value)
        return values
    except (SyntaxError, RecursionError, MemoryError, TypeError) as error:
        raise ValueError(str(error) or type(error).__name__) from error


def _value(node: ast.expr) -> Any:
    if isinstance(node, ast.Call):
        if not isinstance(node.func, ast.Name) or node.func.id not in _CONTAINERS:
            raise ValueError(f'line {node.lineno} calls {ast.unparse(node.func)[:60]}')
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
