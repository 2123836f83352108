"""Config settings by their full names: suggestions in error messages, and values on the command line."""
from __future__ import annotations

import argparse
import ast
import difflib
from collections.abc import Iterator, Mapping
from typing import Any

from mmengine.config import DictAction


class SettingsAction(DictAction):
    """Parses KEY=VALUE like mmengine, but reads Python lists and tuples literally: quoted names keep their spaces."""

    def __call__(self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any,
                 option_string: str | None = None) -> None:
        """Add the settings to those given before."""
        settings = dict(getattr(namespace, self.dest, None) or {})
        for text in values:
            key, equals, value = text.partition('=')
            if not equals:
                raise argparse.ArgumentError(self, f'{text!r} is not KEY=VALUE')
            try:
                settings[key] = _python_list(value) or self._parse_iterable(value)
            except AssertionError as error:
                raise argparse.ArgumentError(self, f'{text!r}: {error}') from None
        setattr(namespace, self.dest, settings)


def _python_list(text: str) -> list | tuple | None:
    """Parse a text as a Python list or tuple. None if it is neither, or is empty."""
    if not text.startswith(('(', '[')):
        return None
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None
    return value if isinstance(value, (list, tuple)) else None


def settings_like(unknown: str, config: Mapping[str, Any]) -> str:
    """Return '; did you mean A or B?' with the settings whose last parts are equal or similar to `unknown`, or ''."""
    names = {name: name.rpartition('.')[2] for name in all_settings(config)}
    ends = set(names.values()) - {'type'}
    last = unknown.rpartition('.')[2]
    end = last if last in ends else next(iter(difflib.get_close_matches(last, sorted(ends), 1)), None)
    like = [name for name, its_end in names.items() if its_end == end]
    return f'; did you mean {" or ".join(like[:3])}?' if like else ''


def all_settings(config: Any, prefix: str = '') -> Iterator[str]:
    """Yield the name of every setting in the form of --cfg-options, such as `optim_wrapper.optimizer.lr`."""
    items = config.items() if isinstance(config, Mapping) else enumerate(config)
    for key, value in items:
        name = f'{prefix}{key}'
        of_dicts = isinstance(value, (list, tuple)) and any(isinstance(item, Mapping) for item in value)
        yield from all_settings(value, f'{name}.') if isinstance(value, Mapping) or of_dicts else (name,)
