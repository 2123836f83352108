"""Data sets in YOLO txt, in the layout of Ultralytics, Roboflow or darknet: one file of lines an image, read by globox.

A line is `class x y width height`, relative to the image's size, or `class x1 y1 x2 y2 x3 y3 ...` for an outline,
of which the bounding box is taken. Images without a file have no boxes.
"""
from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import yaml

from sparse_rcnn_mm.datasets.image_files import find_files, image_size, image_sizes, is_image
from sparse_rcnn_mm.errors import UserError

from .raw_data import Box, Fault, RawData, Record, Split, coco_of, import_globox, relative, split_of

_NAME_FILES = {'classes.txt', 'obj.names', 'labels.txt', '_darknet.labels'}
_KEYS = {'train': 'train', 'val': 'val', 'valid': 'val', 'test': 'test'}


def is_yolo_names(path: Path) -> bool:
    """Whether a file tells the class names: a YAML file with `names`, or a list of a usual name."""
    if path.suffix.lower() in {'.yaml', '.yml'}:
        return any(line.startswith('names') for line in path.read_text(errors='replace').splitlines())
    return path.name.lower() in _NAME_FILES


def read_yolo_form(root: Path, files: list[Path], names_file: Path) -> RawData:
    """Read a data set of one txt file an image.

    Args:
        files: all files below `root`.
        names_file: a YAML file with `names` and, if it has them, the splits; or a list of names, one a line.
    """
    data = RawData(root, 'YOLO txt', {})
    if names_file.suffix.lower() in {'.yaml', '.yml'}:
        content = _parse(names_file)
        names = _names(content['names'], names_file)
        images = {split: _images(content[key], names_file, content.get('path'))
                  for key, split in _KEYS.items() if content.get(key)}
    else:
        names = [line.strip() for line in names_file.read_text().splitlines() if line.strip()]
        images = {}
    if not images:
        images = defaultdict(list)
        for path in filter(is_image, files):
            images[split_of(Path(relative(path, root)))].append(path)
    ids = {name: index for index, name in enumerate(names)}
    for split, paths in images.items():
        image_sizes(paths)  # several at a time; `_read` finds them in its memory
        records = [record for path in paths if (record := _read(path, root, names, data.faults))]
        if any(record.boxes for record in records):
            data.splits[split] = Split(f'txt files of {split or "all"}', coco_of(records, ids))
        else:
            data.notes.append(f'the {split or "only"} split has no boxes and is left out')
    if not data.splits:
        raise UserError(f'the images in {root} have no boxes: a label file lies beside its image, or in a folder '
                        'labels where the image is in a folder images')
    return data


def _parse(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        raise UserError(f'{path} is not valid YAML: {" ".join(str(error).split())}') from error
    if not isinstance(content, dict) or not isinstance(content.get('names'), (list, dict)):
        raise UserError(f"{path} needs the class names as a list 'names'")
    return content


def _names(names: list | dict, path: Path) -> list[str]:
    if isinstance(names, dict):
        if sorted(names) != list(range(len(names))):
            raise UserError(f"the numbers of 'names' in {path} must be 0 to {len(names) - 1} without gaps")
        names = [names[number] for number in range(len(names))]
    if len(set(map(str, names))) < len(names):
        raise UserError(f"{path} has a name twice in 'names'")
    return [str(name) for name in names]


def _images(entries: str | list[str], names_file: Path, base: str | None) -> list[Path]:
    """The images of a split: of folders, or of txt files that list them."""
    paths: list[Path] = []
    for entry in [entries] if isinstance(entries, str) else entries:
        place = _existing(entry, names_file, base)
        if place.is_dir():
            paths += filter(is_image, find_files(place))
        else:
            lines = [line.strip() for line in place.read_text().splitlines() if line.strip()]
            paths += [Path(line) if Path(line).is_absolute() else place.parent / line for line in lines]
    return paths


def _existing(entry: str, names_file: Path, base: str | None) -> Path:
    """`path` of a YAML file may be of another machine, and Roboflow writes `../train/images` for `train/images`."""
    folder = names_file.parent
    places = [*([folder / base / entry] if base else []), folder / entry, folder / entry.removeprefix('../')]
    for place in places:
        if place.exists():
            return place.absolute()
    raise UserError(f'{names_file} names {entry}, which is not in {folder}')


def _label_file(image: Path) -> Path:
    """The folder `images` nearest to the image becomes `labels`; otherwise the file is beside it."""
    parts = list(image.with_suffix('.txt').parts)
    if 'images' in parts[:-1]:
        index = len(parts) - 2 - parts[-2::-1].index('images')
        path = Path(*parts[:index], 'labels', *parts[index + 1:])
        if path.is_file():
            return path
    return image.with_suffix('.txt')


def _read(image: Path, root: Path, names: list[str], faults: list[Fault]) -> Record | None:
    width, height, fault = image_size(str(image))
    if fault:
        faults.append(Fault(relative(image, root), fault))
        return None
    path = _label_file(image)
    boxes = []
    for number, line in enumerate(path.read_text(errors='replace').splitlines() if path.is_file() else [], start=1):
        if line.strip():
            where = f'{relative(path, root)}:{number}'
            try:
                boxes.append(_box(line, (width, height), names, where))
            except ValueError as error:
                faults.append(Fault(where, str(error)))
    return Record(relative(image, root), width, height, boxes)


def _box(line: str, size: tuple[int, int], names: list[str], where: str) -> Box:
    globox = import_globox()
    count = len(line.split())
    if count != 5 and (count < 7 or count % 2 == 0):
        raise ValueError(f'has {count} numbers: a box has 5, an outline an odd number from 7 on')
    read = globox.BoundingBox.from_yolo_v5 if count == 5 else globox.BoundingBox.from_yolo_seg
    try:
        box = read(line, image_size=size)
        number = float(box.label)
    except (globox.ParsingError, ValueError, AssertionError) as error:
        raise ValueError(f'is no box ({error}): {line.strip()[:100]}') from error
    if not (number.is_integer() and 0 <= number < len(names)):
        raise ValueError(f'has the class {box.label}, but there are {len(names)} names, counted from 0')
    return Box(names[int(number)], box.ltrb, where)
