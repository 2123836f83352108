"""Checks a data set before training.

Errors would stop training or teach the model something wrong. Warnings may be intended.
"""
from __future__ import annotations

import hashlib
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from sparse_rcnn_mm.datasets.image_files import image_sizes

from .finding import Finding, box_in, boxes_of
from .mask_inspection import mask_warnings
from .raw_data import Fault, RawData, Split

_REACH = 1.0  # how many pixels a box may reach beyond its image: annotation tools round differently
_LEAKAGE = 'leakage'
_SAME = 0.5  # two boxes of one class are duplicates if their corners differ by less than this, in pixels


@dataclass
class Findings:
    """Errors and warnings, each in the order of the data set."""
    errors: list[Finding] = field(default_factory=list)
    warnings: list[Finding] = field(default_factory=list)


def image_faults(raw: RawData, decode: bool = False) -> list[Fault]:
    """Find images that are missing, broken, or of another size than annotated. Training would stop at them.

    Args:
        raw: the data set.
        decode: decode every image completely instead of reading only the beginning and the end of its file.
    """
    return [Fault(_where(image, split), fault) for split, image, fault in _faulty_images(raw, decode)]


def without_faulty_images(raw: RawData) -> RawData:
    """A copy of the data without the images that `image_faults` reports, and without their boxes."""
    faulty = {(split.source, image['id']) for split, image, _ in _faulty_images(raw, decode=False)}
    splits = {}
    for name, split in raw.splits.items():
        def sound(image_id: int, source: str = split.source) -> bool:
            return (source, image_id) not in faulty

        splits[name] = Split(split.source, {
            'images': [image for image in split.coco['images'] if sound(image['id'])],
            'annotations': [box for box in split.coco['annotations'] if sound(box['image_id'])],
            'categories': split.coco['categories']})
    return RawData(raw.root, raw.form, splits)


def _faulty_images(raw: RawData, decode: bool) -> Iterator[tuple[Split, dict, str]]:
    entries = [(split, image) for split in raw.splits.values() for image in split.coco['images']]
    sizes = image_sizes([raw.root / image['file_name'] for _, image in entries], decode)
    for (split, image), (width, height, fault) in zip(entries, sizes, strict=True):
        annotated = (image['width'], image['height'])
        if not fault and annotated != (width, height):
            fault = f'is {width} x {height} pixels, but annotated as {annotated[0]} x {annotated[1]}'
        if fault:
            yield split, image, fault


def _where(image: dict, split: Split) -> str:
    return f'{image["file_name"]} (image {image["id"]} of {split.source})'


def inspect_data(raw: RawData, num_proposals: int, decode: bool = False, masks: bool = False) -> Findings:
    """Find all errors and warnings of a data set.

    Args:
        raw: the data set.
        num_proposals: proposals of the model, which cannot find more boxes per image than that.
        decode: see `image_faults`.
        masks: the model has masks, so those of the data are checked too.
    """
    same = list(_same_images(raw))
    found = Findings([*data_errors(raw, decode), *(finding for finding in same if finding.kind == _LEAKAGE)])
    for split in raw.splits.values():
        found.warnings += _box_warnings(split)
        found.warnings += _image_findings(split, num_proposals)
        found.warnings += mask_warnings(split) if masks else []
    found.warnings += _class_findings(raw)
    found.warnings += [finding for finding in same if finding.kind != _LEAKAGE]
    return found


def leaked_images(raw: RawData) -> list[Finding]:
    """Find images of one split that are copies of images in another. They falsify evaluation, not training."""
    return [finding for finding in _same_images(raw) if finding.kind == _LEAKAGE]


def data_errors(raw: RawData, decode: bool = False) -> list[Finding]:
    """Find the errors that stop training: all except `leaked_images`, for which training only prints a warning.

    Args:
        raw: the data set.
        decode: see `image_faults`.
    """
    errors = [Finding('entry', *_parts(fault)) for fault in raw.faults]
    errors += [Finding('image', *_parts(fault)) for fault in image_faults(raw, decode)]
    for split in raw.splits.values():
        errors += _boxes_outside(split)
    return errors


def _parts(fault: Fault) -> tuple[str, str]:
    return fault.where, fault.what


def _boxes_outside(split: Split) -> Iterator[Finding]:
    for box, image in boxes_of(split):
        x, y, width, height = box['bbox']
        if width and height and (x >= image['width'] or y >= image['height'] or x + width <= 0 or y + height <= 0):
            yield Finding('outside', box['source'], f'{box_in(box, image)} is outside the image, '
                          f'{image["width"]} x {image["height"]}')


def _box_warnings(split: Split) -> Iterator[Finding]:
    """Boxes that have no area, reach beyond their image, or are duplicates."""
    seen: dict[tuple, str] = {}
    for box, image in boxes_of(split):
        x, y, width, height = box['bbox']
        beyond = max(-x, -y, x + width - image['width'], y + height - image['height'])
        if width <= 0 or height <= 0:
            yield Finding('no area', box['source'], f'{box_in(box, image)} has no area and is skipped')
        elif _REACH < beyond and x < image['width'] and y < image['height'] and x + width > 0 and y + height > 0:
            yield Finding('beyond', box['source'],
                          f'{box_in(box, image)} reaches {beyond:.1f} pixels beyond the image: training clips it, '
                          'evaluation does not')
        key = (box['image_id'], box['category_id'], *(round(value / _SAME) for value in box['bbox']))
        if key in seen:
            yield Finding('same box', box['source'], f'{box_in(box, image)} is a duplicate of {seen[key]}')
        seen.setdefault(key, box['source'])


def _image_findings(split: Split, num_proposals: int) -> Iterator[Finding]:
    counts = Counter(box['image_id'] for box in split.coco['annotations'])
    for image in split.coco['images']:
        where = _where(image, split)
        if not counts[image['id']]:
            yield Finding('no boxes', where, 'has no boxes and is used as background')
        elif counts[image['id']] > num_proposals:
            yield Finding('many boxes', where, f'has {counts[image["id"]]} boxes, more than the {num_proposals} '
                          'proposals of the model (model.rpn_head.num_proposals)')


def _class_findings(raw: RawData) -> Iterator[Finding]:
    """Classes that are evaluated but have no boxes in the training split."""
    counts = class_counts(raw)
    if 'train' not in raw.splits:
        return
    for name, by_split in counts.items():
        if not by_split.get('train') and any(by_split.values()):
            yield Finding('untrained', raw.splits['train'].source, f'has no box of the class {name}, which is in '
                          + ' and '.join(split for split, count in by_split.items() if count))


def class_counts(raw: RawData) -> dict[str, dict[str, int]]:
    """Return class name -> split -> number of boxes, most frequent class first."""
    counts: dict[str, dict[str, int]] = defaultdict(dict)
    for split, part in raw.splits.items():
        names = {category['id']: category['name'] for category in part.coco['categories']}
        found = Counter(names[box['category_id']] for box in part.coco['annotations'])
        for name in names.values():
            counts[name][split] = found[name]
    return dict(sorted(counts.items(), key=lambda item: -sum(item[1].values())))


def _same_images(raw: RawData) -> Iterator[Finding]:
    """Duplicate images. Copies in two splits are an error, since AP is then too high; one file in two is a warning."""
    entries = [(name, image['file_name']) for name, split in raw.splits.items() for image in split.coco['images']]
    by_file: dict[Path, list[tuple[str, str]]] = defaultdict(list)
    for entry in entries:
        by_file[(raw.root / entry[1]).resolve()].append(entry)
    for paths in _same_contents(by_file):
        same = [(*entry, path) for path in paths for entry in by_file[path]]
        for index, (split, file_name, path) in enumerate(same[1:], start=1):
            others = (entry for entry in same[:index] if entry[0] != split and entry[2] != path)
            earlier_split, earlier, _ = next(others, same[0])
            if earlier_split != split and len(paths) > 1:
                yield Finding(_LEAKAGE, file_name, f'of the {split} split is the same image as {earlier} of the '
                              f'{earlier_split} split')
            elif earlier_split != split:
                yield Finding('two splits', file_name, f'is in the {earlier_split} split and in the {split} split')
            else:
                yield Finding('same image', file_name, f'is the same image as {earlier}')


def _same_contents(paths: Iterable[Path]) -> Iterator[list[Path]]:
    """Group files of identical content, including groups of one. Only files of equal size are read."""
    for group in _grouped(paths, lambda path: os.path.getsize(path) if os.path.isfile(path) else str(path)):
        if len(group) == 1:
            yield group
        else:
            yield from _grouped(group, lambda path: hashlib.sha1(path.read_bytes()).hexdigest())


def _grouped(paths: Iterable[Path], key: Callable[[Path], object]) -> list[list[Path]]:
    groups: dict[object, list[Path]] = defaultdict(list)
    for path in paths:
        groups[key(path)].append(path)
    return list(groups.values())
