"""Full names of config settings, for suggestions in error messages."""
from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from typing import Any


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
