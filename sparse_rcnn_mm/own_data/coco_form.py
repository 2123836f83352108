"""Reads data sets in COCO JSON: finds the files with boxes, and the images that they name."""
from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from sparse_rcnn_mm.datasets.coco_json import entry_faults, structure_fault
from sparse_rcnn_mm.datasets.image_files import image_size, image_sizes
from sparse_rcnn_mm.datasets.scan import Scan
from sparse_rcnn_mm.errors import UserError

from .coco_entries import doubtful_boxes, same_names, tidy, turn_boxes
from .locate import Images, parts_of
from .raw_data import TURNED, UNSPLIT, Fault, RawData, Split, relative, split_of
from .text import read_bytes, text_of

NAME = 'COCO JSON'
_SINGULAR = {'categories': 'category', 'images': 'image', 'annotations': 'annotation'}
Change = Callable[[dict], None]
FindAll = Callable[[list[str]], Sequence[Path | None]]


def recognize(scan: Scan) -> list[Path]:
    """Return the JSON files with COCO's keys `images` and `annotations`."""
    return [path for path in scan.with_suffix('.json') if _names(path, b'images', b'annotations')
            and not is_lvis(path)]


def is_lvis(path: Path) -> bool:
    """Whether a JSON file is in LVIS format: COCO with other keys for the images."""
    return _names(path, b'images', b'annotations', b'neg_category_ids')


def _names(path: Path, *keys: bytes) -> bool:
    data = read_bytes(path)
    if b'\0' in data[:8]:
        data = data.replace(b'\0', b'')  # UTF-16 or UTF-32: the keys are ASCII
    return all(b'"%s"' % key in data for key in keys)


def read(scan: Scan, paths: list[Path], form: str = NAME, change: Change | None = None) -> RawData:
    """Read a data set with one JSON file per split.

    Args:
        scan: the files of the folder.
        paths: the JSON files.
        form: the name of the format.
        change: converts the contents of a file in place to COCO, for formats that are close to COCO.
    """
    data = RawData(scan.root, form, {})
    images = Images(scan)
    for name, path in _one_a_split(scan.root, paths, data.unused).items():
        split = _read_split(path, data, partial(images.find_all, near=path, split=name), change)
        for image in split.coco['images']:
            image['file_name'] = images.without_losers(image['file_name'])
        if split.coco['annotations']:
            data.splits[name] = split
        else:
            data.notes.append(f'{split.source} has no boxes and is skipped')
            data.unused.update({scan.root / image['file_name']: 'its split has no boxes'
                                for image in split.coco['images']})
    if not data.splits:
        raise UserError(f'no JSON file in {scan.root} has a usable box' + (
            f': {data.faults[0].where} {data.faults[0].what}' if data.faults else ''))
    data.notes += images.notes
    return data


def read_coco_split(path: Path, root: Path, folder: Path, faults: list[Fault]) -> Split:
    """Read one JSON file whose images are in `folder`. Invalid entries are skipped and added to `faults`."""
    data = RawData(root, NAME, {}, faults)
    return _read_split(path, data, lambda names: [folder / name for name in names])


def _read_split(path: Path, data: RawData, find_all: FindAll, change: Change | None = None) -> Split:
    coco = parse(path, data.notes)
    if change:
        change(coco)
    source = relative(path, data.root)
    wrong = [*tidy(coco)]
    for sentence in same_names(coco):
        raise UserError(f'{source} in {data.root} {sentence}')
    _locate(coco['images'], path, data.root, find_all)
    split = Split(source, _without_faults(coco, source, wrong, data.faults))
    data.notes += [TURNED] * turn_boxes(split.coco)
    if doubt := doubtful_boxes(split.coco):
        first = next(box for box in split.coco['annotations'] if any(box['bbox']))
        raise UserError(f'the boxes of {source} in {data.root} {doubt}; the first is {first["bbox"]} '
                        f'(annotation {first["id"]})')
    data.used.add(path)
    return split


def _one_a_split(root: Path, paths: list[Path], unused: dict[Path, str]) -> dict[str, Path]:
    """Choose the file of each split. If there are several, `instances_*` is the one with boxes, as in COCO."""
    by_split: dict[str, list[Path]] = {}
    for path in paths:
        by_split.setdefault(split_of(Path(relative(path, root))), []).append(path)
    if len(by_split) > 1:
        unused.update(dict.fromkeys(by_split.pop(UNSPLIT, []), 'its name does not contain a split: train, val or test'))
    chosen = {}
    for name, several in by_split.items():
        instances = [path for path in several if path.stem.startswith('instances')] or several
        if len(instances) > 1:
            shown = ', '.join(relative(path, root) for path in instances[:3])
            raise UserError(f'{len(instances)} JSON files in {root} could hold the {name or "only"} split ({shown}): '
                            'name them by their split (train, val, test), or give one file instead of the folder')
        chosen[name] = instances[0]
        unused.update({path: f'{relative(instances[0], root)} is used for its split'
                       for path in several if path not in instances})
    return chosen


def parse(path: Path, notes: list[str]) -> dict[str, Any]:
    """Load a COCO JSON file. If its encoding had to be guessed, a line is added to `notes`.

    Raises:
        UserError: the file is not valid JSON, or lacks COCO's lists.
    """
    data = read_bytes(path)
    try:
        coco = json.loads(data if data[:1] == b'{' and data.isascii() else text_of(data, path, notes))
    except (ValueError, RecursionError) as error:
        what = 'nested too deeply' if isinstance(error, RecursionError) else error
        raise UserError(f'annotation file {path} is not valid JSON: {what}') from error
    fault = structure_fault(coco)
    if fault:
        raise UserError(f'annotation file {path} {fault}')
    return coco


def _locate(images: list[Any], path: Path, root: Path, find_all: FindAll) -> None:
    """Set the file names relative to `root`, and fill in missing image sizes."""
    named = [image for image in images if isinstance(image, dict) and isinstance(image.get('file_name'), str)]
    found = find_all([image['file_name'] for image in named])
    if named and not any(found):
        raise UserError(f'the images of {path} are not in {root}: the first, {named[0]["file_name"]}, is in none of '
                        'its folders')
    usual = Counter(place.parent for place in found if place).most_common(1)
    seen: dict[Path, Any] = {}
    for image, place in zip(named, found, strict=True):
        if place and place in seen:
            raise UserError(f'images {seen[place]} and {image.get("id")} of {path} are both the file '
                            f'{relative(place, root)}: keep one entry per file')
        if place:
            seen[place] = image.get('id')
        elif usual:  # a missing image: the path where it should be, for the error message
            place = usual[0][0] / (parts_of(image['file_name']) or ['?'])[-1]
        if place:
            image['file_name'] = relative(place, root)
    unsized = [(image, place) for image, place in zip(named, found, strict=True)
               if place and not (image.get('width') and image.get('height'))]
    image_sizes([place for _, place in unsized])  # in parallel; `image_size` below finds the results in its cache
    for image, place in unsized:
        size = image_size(str(place))
        known = {side: image[side] for side in ('width', 'height') if image.get(side)}
        image.update({} if size.fault else {'width': size.width, 'height': size.height, **known})


def _without_faults(coco: dict, source: str, wrong: list[tuple[str, int, str]], faults: list[Fault]) -> dict:
    """Keep the valid entries and add `source` to each annotation; the invalid ones are added to `faults`."""
    positions: dict[str, set[int]] = {'categories': set(), 'images': set(), 'annotations': set()}
    for key, index, what in [*wrong, *entry_faults(coco, evaluated=False)]:
        positions[key].add(index)
        entry = coco[key][index]
        known = isinstance(entry, dict) and isinstance(entry.get('id'), int)
        faults.append(Fault(f'{source}: {_SINGULAR[key]} {entry["id"]}' if known
                            else f"{source}: entry {index} of '{key}'", what[:300]))
    kept = {key: [entry for index, entry in enumerate(coco[key]) if index not in positions[key]] for key in positions}
    image_ids = {image['id'] for image in kept['images']}
    category_ids = {category['id'] for category in kept['categories']}
    kept['annotations'] = [{'area': annotation['bbox'][2] * annotation['bbox'][3], **annotation,
                            'source': f'{source}: annotation {annotation["id"]}'}
                           for annotation in kept['annotations']
                           if annotation['image_id'] in image_ids and annotation['category_id'] in category_ids]
    return kept
