"""Remembers the images held out for validation by their content, so that a moved or renamed folder is no problem."""
from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from sparse_rcnn_mm.datasets.image_files import digest
from sparse_rcnn_mm.errors import UserError

from .raw_data import RawData


def held_out_lines(root: Path, file_names: Sequence[str]) -> list[str]:
    """One line 'DIGEST NAME' per image, as stored in a checkpoint's `dataset_meta['held_out']`."""
    names = (ascii(name)[1:-1] for name in file_names)
    return [f'{one} {name}' for one, name in zip(_digests(root, file_names), names, strict=True)]


def find_held_out(raw: RawData, held_out: Sequence[tuple[str, str]]) -> set[str]:
    """Return the file names of the images of a data set that training held out.

    Images with the same names are hashed first. If all are found that way, the other files are not read.

    Raises:
        UserError: more images than were held out are alike, and neither names nor contents tell which they are.
    """
    if not held_out:
        return set()
    wanted: dict[str, list[str]] = defaultdict(list)
    for one, name in held_out:
        wanted[one].append(name)
    base_names = {name.rpartition('/')[2] for _, name in held_out}
    names = [image['file_name'] for split in raw.splits.values() for image in split.coco['images']]
    likely = [name for name in names if ascii(name)[1:-1].rpartition('/')[2] in base_names]
    found = dict(zip(likely, _digests(raw.root, likely), strict=True))
    if not set(wanted) <= set(found.values()):
        others = [name for name in names if name not in found]
        found.update(zip(others, _digests(raw.root, others), strict=True))
    alike: dict[str, list[str]] = defaultdict(list)
    for name, one in found.items():
        alike[one].append(name)
    return {name for one in wanted for name in _same(raw.root, alike[one], wanted[one])}


def _same(root: Path, names: list[str], held_out: list[str]) -> list[str]:
    """Those of `names`, images with one digest, that were held out under other names or under the same."""
    if len(names) <= len(held_out):
        return names
    named = [name for name in names if ascii(name)[1:-1] in held_out]
    if len(named) == len(held_out):
        return named
    if len({hashlib.sha256((root / name).read_bytes()).digest() for name in names}) == 1:
        return names
    raise UserError(f'{names[0]} and {names[1]} in {root} have the beginning, end and size of {held_out[0]}, which '
                    'training held out: give the images the names that they had in training')


def _digests(root: Path, file_names: Iterable[str]) -> list[str]:
    with ThreadPoolExecutor() as pool:
        return list(pool.map(lambda name: digest(root / name), file_names))
