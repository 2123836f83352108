"""Reads and checks the metadata of an exported file, which may come from an untrusted source."""
from __future__ import annotations

import json
import os
from typing import Any

from sparse_rcnn_mm.errors import UserError

FORMAT = 1  # the version of the metadata
_LARGEST = 100_000  # pixels


def read_metadata(text: str, path: str | os.PathLike) -> dict[str, Any]:
    """Parse the metadata of the file `path`, and check what is used of it.

    Raises:
        UserError: the metadata has another version, or is malformed.
    """
    try:
        said = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f'the metadata of {path} is not valid JSON: export the checkpoint again') from error
    if isinstance(said, dict) and said.get('format') != FORMAT:
        raise UserError(f'{path} has format {str(said.get("format"))[:60]}, and this version reads {FORMAT}: '
                        'export the checkpoint again')
    if fault := _fault(said):
        raise UserError(f'the metadata of {path} is malformed ({fault}): export the checkpoint again')
    return said


def _fault(said: Any) -> str:
    """Return what is wrong with the metadata, or ''."""
    if not isinstance(said, dict):
        return f'it is a {type(said).__name__}'
    classes, ids, palette = said.get('classes'), said.get('category_ids'), said.get('palette')
    if not isinstance(classes, list) or not classes or not all(isinstance(name, str) for name in classes):
        return "'classes' is not a list of names"
    if not (isinstance(ids, list) and len(ids) == len(classes) == len(set(map(str, ids))) and all(map(_is_int, ids))):
        return "'category_ids' is not a list of different whole numbers, one for each class"
    if palette is not None and not (isinstance(palette, list) and len(palette) == len(classes)
                                    and all(map(_is_color, palette))):
        return "'palette' is not a list of colors, one for each class"
    for key in ('config', 'precision', 'package', 'weights_sha256'):
        if not isinstance(said.get(key, ''), str | None):
            return f'{key!r} is not a text'
    if said.get('batch') is not None and not _is_size(said['batch']):
        return "'batch' is not a number of images"
    return _resize_fault(said.get('resize'))


def _resize_fault(resize: Any) -> str:
    if not isinstance(resize, dict) or not {'short_side'} <= set(resize) <= {'short_side', 'max_long_side', 'within'}:
        return "'resize' is not a rule"
    within = resize.get('within')
    sides = [resize['short_side'], *([resize['max_long_side']] if resize.get('max_long_side') is not None else [])]
    if within is not None:
        if not isinstance(within, list) or len(within) != 2:
            return "'within' of 'resize' is not a height and a width"
        sides += within
    return '' if all(map(_is_size, sides)) else "'resize' has a side that is not a number of pixels"


def _is_int(value: Any) -> bool:
    return type(value) is int


def _is_size(value: Any) -> bool:
    return _is_int(value) and 1 <= value <= _LARGEST


def _is_color(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 3 and all(_is_int(part) and 0 <= part <= 255 for part in value)
