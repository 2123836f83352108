"""Reads a COCO annotation file, and reports in one sentence what is wrong with it."""
from __future__ import annotations

import json
import os.path as osp
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from typing import NamedTuple

from mmengine import fileio

from sparse_rcnn_mm.errors import UserError

LARGEST = 1e9  # pixels
LARGEST_ID = 2 ** 53 - 1  # larger ones are not exact in the JSON of other languages


def full_path(path: str) -> str:
    """The absolute path. Addresses of other storage (s3://...) are returned unchanged."""
    return path if '://' in path else osp.abspath(path)


def read_coco_json(path: str, evaluated: bool, missing_hint: str, backend_args: dict | None = None) -> dict:
    """Parse and check the annotation file: `images`, `annotations` and `categories` as COCO defines them.

    Args:
        path: the file, on any storage that mmengine reads.
        evaluated: the file is ground truth for the COCO metric, which also needs `area` and `iscrowd`. Then a file
            without a list `annotations`, such as those of COCO's test sets, is accepted.
        missing_hint: what to do if the file does not exist, for the message.
        backend_args: arguments of mmengine's file backend.

    Raises:
        UserError: the file is missing, unreadable or malformed. The message names the first faulty entry.
    """
    path = full_path(path)
    if not fileio.isfile(path, backend_args=backend_args):
        raise UserError(f'annotation file not found: {path}; {missing_hint}')
    try:
        coco = json.loads(fileio.get(path, backend_args=backend_args))
    except OSError as error:
        raise UserError(f'annotation file {path} cannot be read: {error.strerror or error}') from error
    except RecursionError as error:
        raise UserError(f'annotation file {path} is not in COCO format: its brackets are nested too deeply') from error
    except UnicodeDecodeError as error:
        raise UserError(f'annotation file {path} is a binary file, not JSON') from error
    except ValueError as error:  # also a number of too many digits
        raise UserError(f'annotation file {path} is not valid JSON: {error}') from error
    if evaluated and isinstance(coco, dict) and 'images' in coco:
        coco.setdefault('annotations', [])
    _check(coco, path, evaluated)
    return coco


def _check(coco: object, path: str, evaluated: bool) -> None:
    fault = structure_fault(coco)
    if fault:
        raise UserError(f'annotation file {path} {fault}')
    assert isinstance(coco, dict)
    (name, count), = Counter(str(category['name']) for category in coco['categories']
                             if isinstance(category, dict) and 'name' in category).most_common(1) or [('', 0)]
    if count > 1:
        raise UserError(f'annotation file {path} has {count} categories called {name!r}: rename or remove one')
    first = next(entry_faults(coco, evaluated), None)
    if first:
        raise UserError(f"entry {first.position} of '{first.key}' in annotation file {path} {first.what}: "
                        f'{json.dumps(coco[first.key][first.position])[:200]}')


def structure_fault(coco: object) -> str:
    """Why the file as a whole is unusable, as the rest of a sentence; empty if it is usable."""
    if not isinstance(coco, dict):
        return (f'is not in COCO format: it contains a {type(coco).__name__}, '
                "not an object with the lists 'images', 'annotations' and 'categories'")
    for key in ('images', 'annotations', 'categories'):
        if not isinstance(coco.get(key), list):
            found = ', '.join(sorted(map(str, coco))) or 'nothing'
            return f"is not in COCO format: it has no list '{key}' (found: {found})"
    for key in ('images', 'categories'):
        if not coco[key]:
            return f"has an empty list '{key}'"
    return ''


class EntryFault(NamedTuple):
    """A fault of entry `position` of the list `key`; `what` is the rest of a sentence."""
    key: str
    position: int
    what: str


def entry_faults(coco: dict, evaluated: bool) -> Iterator[EntryFault]:
    """Yield all faulty entries of a file that has no `structure_fault`."""
    ids: dict[str, set] = {'categories': set(), 'images': set(), 'annotations': set()}
    checks: dict[str, Callable[[dict], str]] = {
        'categories': _category_fault,
        'images': _image_fault,
        'annotations': lambda entry: _annotation_fault(entry, ids['images'], ids['categories'], evaluated),
    }
    for key, fault_of in checks.items():
        for index, entry in enumerate(coco[key]):
            fault = _entry_fault(entry, ids[key], fault_of)
            if fault:
                yield EntryFault(key, index, fault)


def _entry_fault(entry: object, ids: set, fault_of: Callable[[dict], str]) -> str:
    """Check one entry, and that its id is new; the id is added to `ids`."""
    if not isinstance(entry, dict):
        return f'is a {type(entry).__name__}, not an object'
    if not isinstance(entry.get('id'), int) or abs(entry['id']) > LARGEST_ID:
        return f"needs a whole number as 'id', not {entry.get('id')!r}"
    if entry['id'] in ids:
        return 'has the id of an earlier entry'
    ids.add(entry['id'])
    return fault_of(entry)


def _category_fault(category: dict) -> str:
    return '' if isinstance(category.get('name'), str) else "has no 'name'"


def _image_fault(image: dict) -> str:
    if not isinstance(image.get('file_name'), str):
        return "has no 'file_name'"
    for key in ('width', 'height'):
        if not is_number(image.get(key)) or image[key] <= 0:
            return f"needs a positive number of pixels as '{key}', not {image.get(key)!r}"
    return ''


def _annotation_fault(annotation: dict, image_ids: Collection, category_ids: Collection, evaluated: bool) -> str:
    for key, known in (('image_id', image_ids), ('category_id', category_ids)):
        if not isinstance(annotation.get(key), int) or annotation[key] not in known:
            return f'has the {key} {annotation.get(key)!r}, which is not in the file'
    box = annotation.get('bbox')
    if not _is_box(box):
        return f"needs 'bbox' as [x, y, width, height] with a width and height of at least 0, not {box!r}"
    for key in ('iscrowd', 'ignore'):
        if not isinstance(annotation.get(key, 0), (int, float, type(None))):
            return f"has {annotation[key]!r} as '{key}', which is neither 0 nor 1"
    for key, usable in (('area', is_number), ('iscrowd', _is_flag)) if evaluated else ():
        if annotation.get(key) is None:
            return f"has no '{key}', which the COCO metric needs"
        if not usable(annotation[key]):
            return f"has {annotation[key]!r} as '{key}', which the COCO metric cannot use"
    return ''


def _is_box(box: object) -> bool:
    return isinstance(box, list) and len(box) == 4 and all(map(is_number, box)) and box[2] >= 0 and box[3] >= 0


def _is_flag(value: object) -> bool:
    return isinstance(value, (int, float)) and abs(value) < float('inf')


def is_number(value: object) -> bool:
    """Whether a value can be a number of pixels: finite, and at most 1e9."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= LARGEST
