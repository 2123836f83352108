"""Reads CrowdHuman's odgt files: one JSON object per line, one line per image."""
from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

from sparse_rcnn_mm.datasets.coco_json import is_number
from sparse_rcnn_mm.errors import UserError

from .raw_data import Fault, RawData, relative
from .text import name_fault, read_text

_BOXES = {'fbox': 'the whole body', 'vbox': 'its visible part'}


class OdgtRecord(NamedTuple):
    """One image. `image` is its file name without the suffix; `boxes` are the valid entries of `gtboxes`."""
    where: str
    image: str
    boxes: list[tuple[str, dict[str, Any]]]


def read_odgt(path: Path, split: str, data: RawData) -> list[OdgtRecord]:
    """Read the records of a file. Invalid lines and boxes are left out and added to the faults of `data`.

    Args:
        split: the split of the file. Lines of a test split need no boxes: CrowdHuman does not publish those.

    Raises:
        UserError: the file cannot be read, or two of its lines are about one image.
    """
    records: list[OdgtRecord] = []
    lines: dict[str, str] = {}
    for number, line in enumerate(read_text(path, data.notes).split('\n'), start=1):
        where = f'{relative(path, data.root)}:{number}'
        if not line.strip():
            continue
        try:
            content = _parse(line, boxes_needed=split != 'test')
        except ValueError as error:
            data.faults.append(Fault(where, str(error)))
            continue
        name = content['ID']
        if name in lines:
            raise UserError(f'{lines[name]} and {where} in {data.root} are both about the image {name}: remove one')
        lines[name] = where
        records.append(OdgtRecord(where, name, _boxes(content.get('gtboxes', []), where, data.faults)))
    data.used.add(path)
    return records


def is_ignored(box: dict[str, Any]) -> bool:
    """Whether a box is an ignored region. As in the authors' converter, tag and head do not matter."""
    return box.get('extra', {}).get('ignore') == 1


def _parse(line: str, boxes_needed: bool) -> dict[str, Any]:
    """Parse a line.

    Raises:
        ValueError: the line is invalid. The message is the rest of a sentence about it.
    """
    try:
        content = json.loads(line)
    except (ValueError, RecursionError) as error:
        what = 'nested too deeply' if isinstance(error, RecursionError) else error
        raise ValueError(f'is not valid JSON: {what}') from error
    if not isinstance(content, dict):
        raise ValueError(f'holds a {type(content).__name__}, not an object with ID and gtboxes')
    name = content.get('ID')
    if not isinstance(name, str) or name_fault(name):
        raise ValueError(f"needs the name of an image as 'ID', not {str(name)[:100]!a}")
    if not isinstance(content.get('gtboxes', None if boxes_needed else []), list):
        raise ValueError("has no list 'gtboxes'")
    return content


def _boxes(entries: list[Any], where: str, faults: list[Fault]) -> list[tuple[str, dict[str, Any]]]:
    """Return the valid entries of `gtboxes`, each with its place in the file."""
    kept = []
    for position, entry in enumerate(entries):
        place = f'{where}, box {position}'
        if fault := _box_fault(entry):
            faults.append(Fault(place, fault))
        else:
            kept.append((place, entry))
    return kept


def _box_fault(entry: Any) -> str:
    """Return why an entry of `gtboxes` is not a valid box, as the rest of a sentence."""
    if not isinstance(entry, dict):
        return f'is a {type(entry).__name__}, not an object'
    for key, meaning in _BOXES.items():
        box = entry.get(key)
        if not (isinstance(box, list) and len(box) == 4 and all(map(is_number, box))):
            return f"needs [x, y, width, height] of {meaning} as '{key}', not {str(box)[:100]}"
    if not isinstance(entry.get('extra', {}), dict):
        return f"has a {type(entry['extra']).__name__} as 'extra', not an object"
    return ''
