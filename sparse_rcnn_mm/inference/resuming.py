"""Finds the results of an earlier run, which need not be computed again."""
from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from sparse_rcnn_mm.errors import UserError

from .contents import is_same
from .records import Record, read_about, read_records
from .sources import Source

_INSTEAD = 'run without --resume, or with another --out-dir'
_SAID = {'score_thr': '--score-thr', 'only': '--classes', 'classes': 'a model with the classes',
         **{key: f'another --{key}' for key in ('model', 'config', 'tta', 'precision')}}


def done_before(path: Path, about: Mapping[str, Any], sources: Sequence[Source],
                is_written: Callable[[Source], bool]) -> set[str]:
    """Return the names of the sources that the records in `path` cover completely.

    These do not include videos that were cut off, and sources whose picture is missing.

    Args:
        path: the file of records of the earlier run.
        about: the inputs and settings of this run.
        sources: the sources of this run.
        is_written: whether the picture of a source exists.

    Raises:
        UserError: the earlier run had other inputs or other settings, or the file is not from a run.
    """
    earlier = read_about(path)
    if earlier is None:
        return set()
    _compare(path, earlier, about)
    by_name = {source.name: source for source in sources}
    recorded: dict[str, bool] = {}
    for record in read_records([path]):
        if record.name not in recorded:
            _check(record, by_name.get(record.name), path)
        recorded[record.name] = recorded.get(record.name, False) or record.frame is None or record.last
    return {name for name, whole in recorded.items() if whole and is_written(by_name[name])}


def _compare(path: Path, earlier: Mapping[str, Any], about: Mapping[str, Any]) -> None:
    for key in _SAID:  # without the inputs, of which there may be more
        if earlier.get(key) == about.get(key):
            continue
        was, now = ('' if _SAID[key].startswith('another') else f' {_shown(settings.get(key))}'
                    for settings in (earlier, about))
        instead_of = f'{_SAID[key]}{was}, not{now}' if was != now else _SAID[key]
        raise UserError(f'{path} was written with {instead_of}: {_INSTEAD}')


def _shown(value: Any) -> str:
    return 'all' if value is None else ', '.join(map(str, value)) if isinstance(value, list) else str(value)


def _check(record: Record, source: Source | None, path: Path) -> None:
    if source is None:
        raise UserError(f'{path} holds detections on {record.name} ({record.path}), which is not among the inputs now: '
                        f'{_INSTEAD}')
    if source.kind == 'camera':
        raise UserError(f'camera {source.path} cannot be resumed: {_INSTEAD}')
    if not is_same(source.path, record.content):
        raise UserError(f'{path} holds detections on another {record.name} ({record.path}) than {source.path} is now: '
                        f'{_INSTEAD}')
