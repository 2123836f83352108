"""Reads Open Images CSV: one row per box, relative to the image size, and the class names in a second file."""
from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from sparse_rcnn_mm.datasets.image_files import image_size, image_sizes
from sparse_rcnn_mm.datasets.scan import Scan
from sparse_rcnn_mm.errors import UserError

from .locate import Images
from .raw_data import Box, Fault, RawData, Record, Split, coco_of, one_file_a_split, relative
from .text import flag, name_fault, read_bytes, read_text

NAME = 'Open Images CSV'
_NAMES = ['LabelName', 'DisplayName']  # the header of a file with class names, if it has one
_COLUMNS = {'ImageID', 'LabelName', 'XMin', 'XMax', 'YMin', 'YMax'}


def recognize(scan: Scan) -> list[Path]:
    """Return the CSV files with the box columns of Open Images."""
    return [path for path in scan.with_suffix('.csv')
            if _COLUMNS <= set(_first_row(path))]


def read(scan: Scan, paths: list[Path]) -> RawData:
    """Read a data set with one CSV file per split."""
    data = RawData(scan.root, NAME, {})
    by_split = one_file_a_split(paths, scan.root)
    words = _class_names(scan, data)
    images = Images(scan)
    records = {name: _records(path, name, images, words, data) for name, path in by_split.items()}
    names = sorted({box.name for several in records.values() for record in several for box in record.boxes})
    ids = {name: index for index, name in enumerate(names)}
    for name, several in records.items():
        data.splits[name] = Split(relative(by_split[name], scan.root), coco_of(several, ids))
    data.notes += images.notes
    return data


def _class_names(scan: Scan, data: RawData) -> dict[str, str]:
    """Read label -> class name from the files with two columns, of which the first is a label such as /m/01g317."""
    words: dict[str, str] = {}
    for path in scan.files:
        first = _first_row(path) if path.suffix.lower() == '.csv' else []
        if first == _NAMES or (len(first) == 2 and first[0].startswith('/m/')):
            for row in _rows(path, data.notes):
                if len(row) == 2 and row != _NAMES and words.setdefault(row[0], row[1]) != row[1]:
                    raise UserError(f'the label {row[0]} is {words[row[0]]}, but {row[1]} in {path}: keep one')
            data.used.add(path)
    twice = [name for name, count in Counter(words.values()).items() if count > 1]
    if twice:
        raise UserError(f'two labels in the class descriptions of {scan.root} have the name {twice[0]}: rename one')
    return words


def _first_row(path: Path) -> list[str]:
    line = read_bytes(path)[:2000].partition(b'\n')[0].decode('latin-1').strip('ï»¿\r')
    try:
        return next(csv.reader([line]), [])
    except csv.Error:  # lines that end as on old Macs; NUL in UTF-16
        return []


def _rows(path: Path, notes: list[str]) -> Iterator[list[str]]:
    try:
        yield from csv.reader(io.StringIO(read_text(path, notes)))
    except csv.Error as error:
        raise UserError(f'{path} is not valid CSV: {error}') from error


def _records(path: Path, split: str, images: Images, words: dict[str, str], data: RawData) -> list[Record]:
    rows = _rows(path, data.notes)
    header = next(rows)
    boxes: dict[str, list[tuple[int, dict[str, str]]]] = {}
    for number, row in enumerate(rows, start=2):
        if len(row) == len(header):
            entry = dict(zip(header, row, strict=True))
            boxes.setdefault(entry['ImageID'], []).append((number, entry))
        elif row:
            data.faults.append(Fault(f'{relative(path, data.root)}:{number}', f'has {len(row)} columns, '
                                     f'not {len(header)}'))
    data.used.add(path)
    found = dict(zip(boxes, images.find_all(boxes, path, split, stems=True), strict=True))
    if not any(found.values()):
        raise UserError(f'the images of {path} are not in {data.root}: the first is {next(iter(found), "none")}')
    image_sizes([place for place in found.values() if place])  # reads many files in parallel and caches the sizes
    return [record for name, place in found.items() if (record := _record(name, place, path, boxes[name], words, data))]


def _record(name: str, place: Path | None, path: Path, entries: list[tuple[int, dict[str, str]]],
            words: dict[str, str], data: RawData) -> Record | None:
    width, height, fault = image_size(str(place)) if place else (0, 0, 'there is no such image')
    if fault:
        data.faults.append(Fault(f'{name} (line {entries[0][0]} of {relative(path, data.root)})', fault))
        data.used.update({place} if place else ())
        return None
    boxes = []
    for number, entry in entries:
        where = f'{relative(path, data.root)}:{number}'
        try:
            boxes.append(_box(entry, (width, height), words, where))
        except ValueError as error:
            data.faults.append(Fault(where, str(error)))
    assert place is not None
    return Record(relative(place, data.root), width, height, boxes)


def _box(entry: dict[str, str], size: tuple[int, int], words: dict[str, str], where: str) -> Box:
    try:
        x1, x2, y1, y2 = (float(entry[key]) for key in ('XMin', 'XMax', 'YMin', 'YMax'))
    except ValueError as error:
        raise ValueError(f'is not a valid box ({error})') from error
    if not (0 <= x1 <= x2 <= 1.001 and 0 <= y1 <= y2 <= 1.001):
        raise ValueError(f'is not a valid box: {x1}, {x2}, {y1}, {y2} are not ordered pairs between 0 and 1')
    name = words.get(entry['LabelName'], entry['LabelName'])
    if fault := name_fault(name):
        raise ValueError(f'has a class name that {fault}')
    group = entry.get('IsGroupOf')
    if (ignored := False if group == '-1' else flag(group)) is None:  # -1: unknown
        raise ValueError(f'needs 0 or 1 as IsGroupOf, not {group!r}')
    corners = (x1 * size[0], y1 * size[1], x2 * size[0], y2 * size[1])
    return Box(name, corners, where, ignored)
