"""Reads data sets in YOLO txt, as Ultralytics, Roboflow and darknet lay them out: one file per image, parsed by globox.

The splits are those of data.yaml, else of darknet's lists of images, else of the folders' names.

A line is `class x y width height`, relative to the image size, or `class x1 y1 x2 y2 x3 y3 ...` for an outline, which
is replaced by its bounding box. With `kpt_shape` in data.yaml, keypoints follow the box. Images without a label file
have no boxes.
"""
from __future__ import annotations

import os
import re
from collections import defaultdict
from pathlib import Path

from sparse_rcnn_mm.datasets.coco_json import is_number
from sparse_rcnn_mm.datasets.image_files import SUFFIXES, image_size, image_sizes
from sparse_rcnn_mm.datasets.scan import Scan
from sparse_rcnn_mm.datasets.scan import scan as scan_folder
from sparse_rcnn_mm.errors import UserError

from .locate import Images, lookup_key, parts_of
from .raw_data import Box, Fault, RawData, Record, Split, coco_of, import_globox, one_file_a_split, relative, split_of
from .text import read_text
from .yolo_names import NAME_FILES, SPLITS, YAML, DataYaml, Names, is_data_yaml, read_data_yaml

NAME = 'YOLO txt'
_NUMBER = r'[-+]?[\d.]+(?:[eE][-+]?\d+)?'
_LINE = re.compile(rf'\ufeff?\s*\d+(?:\.0*)?(?:\s+{_NUMBER}){{4,}}\s*$')


def recognize(scan: Scan) -> list[Path]:
    """Return the files with class names: a YAML file with `names`, or `classes.txt` and the like beside label files."""
    yamls = [path for path in scan.with_suffix(*YAML) if is_data_yaml(path)]
    lists = [path for path in scan.chosen if path.name.lower() in NAME_FILES]
    if yamls and any(read_data_yaml(path, []).splits for path in yamls):
        return yamls + lists
    return yamls + lists if (yamls or lists) and any(map(is_label_file, scan.files)) else []


def is_label_file(path: Path) -> bool:
    """Whether a txt file contains YOLO boxes."""
    if path.suffix.lower() != '.txt' or path.name.lower() in NAME_FILES:
        return False
    try:
        lines = read_text(path, []).split('\n', 5)[:5]
    except UserError:
        return False
    return any(_LINE.match(line) for line in lines)


def read(scan: Scan, paths: list[Path]) -> RawData:
    """Read a data set with one txt file per image.

    Args:
        scan: the files of the folder.
        paths: the files with the class names. If one is a data.yaml, it may also define the splits.
    """
    data = RawData(scan.root, NAME, {})
    names = Names(scan, paths, data.notes)
    data.used.update(names.used)
    files = _LabelFiles(scan)
    if names.yaml and names.yaml.splits:
        images = _images_of_yaml(names.yaml, scan, data)
    elif 'train' in (lists := _lists(scan)):
        images = _images_by_list(lists, scan, data)
    else:
        images = _images_by_folder(scan, data, files)
    reader = _Reader(data, names, files)
    ids = {name: index for index, name in enumerate(names.all)}
    for split, several in images.items():
        image_sizes(several)  # in parallel; `_Reader` finds the results in the cache
        records = [record for path in several if (record := reader.read(path))]
        if any(record.boxes for record in records):
            data.splits[split] = Split(f'txt files of {split or "all"}', coco_of(records, ids))
        else:
            data.notes.append(f'the {split or "only"} split has no boxes and is skipped')
    reader.check()
    if not data.splits:
        raise UserError(f'the images in {scan.root} have no boxes: a label file must be beside its image, or in a '
                        'folder labels if the image is in a folder images' + (
                            f'; {data.faults[0].where} {data.faults[0].what}' if data.faults else ''))
    return data


def is_image_list(path: Path) -> bool:
    """Whether the first lines of a txt file name images."""
    if path.suffix.lower() != '.txt':
        return False
    try:
        lines = [line.strip() for line in read_text(path, []).split('\n', 5)[:5]]
    except UserError:
        return False
    return any(lines) and all(os.path.splitext(line)[1].lower() in SUFFIXES for line in lines if line)


def _lists(scan: Scan) -> dict[str, Path]:
    """Split -> list of images, as a file such as `obj.data` says, else by the words in its name: `valid.txt`.

    Raises:
        UserError: two lists could be of the same split.
    """
    told = {}
    for path in scan.with_suffix('.data'):
        for key, value in re.findall(r'^\s*(\w+)\s*=\s*(.+?)\s*$', read_text(path, []), re.MULTILINE):
            if key in SPLITS and parts_of(value):
                told[parts_of(value)[-1]] = SPLITS[key]
    lists = [path for path in scan.with_suffix('.txt') if is_image_list(path)
             and (path.name in told or split_of(Path(relative(path, scan.root))))]
    return one_file_a_split(lists, scan.root, told)


def _images_by_list(lists: dict[str, Path], scan: Scan, data: RawData) -> dict[str, list[Path]]:
    """Split -> images, from lists. Images in no list are left out."""
    finder = Images(scan)
    images = {split: list(dict.fromkeys(_images_in(path, finder, scan, data))) for split, path in lists.items()}
    data.unused.update(dict.fromkeys(scan.images, 'no list of images names them'))
    data.notes += [f'splits from the lists {" and ".join(relative(lists[split], scan.root) for split in images)}',
                   *finder.notes]
    return images


def _images_by_folder(scan: Scan, data: RawData, files: _LabelFiles) -> dict[str, list[Path]]:
    """Split -> images, by the folder names. Folders without any label file are left out."""
    folders: dict[Path, list[Path]] = defaultdict(list)
    for path in scan.images:
        folders[path.parent].append(path)
    images: dict[str, list[Path]] = defaultdict(list)
    for folder, several in folders.items():
        if any(map(files.of, several)):
            images[split_of(Path(relative(folder, scan.root)))] += several
        else:
            data.unused.update(dict.fromkeys(several, 'no image of the folder has a label file'))
    return images


def _images_of_yaml(content: DataYaml, scan: Scan, data: RawData) -> dict[str, list[Path]]:
    """Split -> images, from the folders or txt lists in data.yaml. Only the test split may be missing."""
    finder = Images(scan)
    images: dict[str, list[Path]] = {}
    for split, entries in content.splits.items():
        found: list[Path] = []
        for entry in entries:
            place = _place(entry, content, scan.root, data.notes)
            if place is None and split == 'test':
                data.notes.append(f'{relative(content.path, scan.root)} names {entry} for the test split, which does '
                                  'not exist')
            elif place is None:
                raise UserError(f'{content.path} names {entry}, which is not in {content.path.parent}')
            else:
                found += _images_in(place, finder, scan, data)
                if not found:
                    raise UserError(f'{content.path} names {entry} for the {split} split, which contains no image')
        if found:
            images[split] = list(dict.fromkeys(found))
    data.notes += finder.notes
    return images


def _place(entry: str, content: DataYaml, root: Path, notes: list[str]) -> Path | None:
    """Find the folder or list of an entry: the path as written, else the end of the path beside the YAML file.

    The fallback is needed since `path` may be of another machine, and Roboflow writes `../train/images` for
    `train/images`.
    """
    folder, parts = content.path.parent, parts_of(entry)
    bases = [folder / os.path.expanduser(content.base), folder] if content.base else [folder]
    written = _first_existing([base / os.path.expanduser(entry) for base in bases])
    end = _first_existing([folder.joinpath(*parts[start:]) for start in range(len(parts))])
    place = written or end
    if place and root.is_relative_to(place) and root != place:
        raise UserError(f'{content.path} names {entry}, a folder that contains the whole data set and more: name '
                        'the folder of the images')
    if written and end and '..' in entry and not written.is_relative_to(folder) and written.resolve() != end.resolve():
        raise UserError(f'{content.path} names {entry}, which could be {written} or {end}: write an absolute path')
    if end and not written:
        notes.append(f'{entry} of {content.path.name} is read as {relative(end, folder)}')
    return place


def _first_existing(places: list[Path]) -> Path | None:
    return next((Path(os.path.abspath(place)) for place in places if _exists(place)), None)


def _exists(place: Path) -> bool:
    try:
        return place.is_dir() or place.is_file()
    except (OSError, ValueError):
        return False


def _images_in(place: Path, finder: Images, scan: Scan, data: RawData) -> list[Path]:
    if place.is_dir():
        inside = place.is_relative_to(scan.root) or place.resolve().is_relative_to(scan.root)
        below = scan if inside else scan_folder(place)
        return [path for path in below.images if path.is_relative_to(place) or path.is_relative_to(place.resolve())]
    data.used.add(place)
    lines = [line.strip() for line in read_text(place, data.notes).splitlines() if line.strip()]
    found = [finder.find(line, place, '') for line in lines]
    for line, path in zip(lines, found, strict=True):
        if path is None:
            raise UserError(f'{place} names the image {line}, which is not in {scan.root}')
    return [path for path in found if path]


class _LabelFiles:
    """Finds the label file of an image. Upper case and the form of accents matter only where several files fit."""

    def __init__(self, scan: Scan) -> None:
        self._root = scan.root
        self._by_key: dict[str, list[Path]] = defaultdict(list)
        for path in scan.files:
            if path.suffix.lower() == '.txt':
                self._by_key[lookup_key(str(path))].append(path)

    def of(self, image: Path) -> Path | None:
        """The label file: in `labels` in place of the nearest folder `images`, else beside the image; or None.

        Raises:
            UserError: several files fit, and they differ.
        """
        beside = self._file(image.with_suffix('.txt'))
        parts = list(image.parts)
        index = next((index for index in range(len(parts) - 2, -1, -1) if parts[index].lower() == 'images'), None)
        if index is None:
            return beside
        for word in ('labels', 'Labels', 'LABELS'):
            path = self._file(Path(*parts[:index], word, *parts[index + 1:]).with_suffix('.txt'))
            if path:
                if beside and is_label_file(beside) and beside.read_bytes() != path.read_bytes():
                    raise UserError(f'{path} and {beside} could both be the label file of {image.name}: remove one')
                return path
        return beside

    def _file(self, path: Path) -> Path | None:
        if path.is_file():
            return path
        fitting = self._by_key.get(lookup_key(str(path)), [])
        if len(fitting) > 1:
            raise UserError(f'{" and ".join(relative(path, self._root) for path in fitting[:2])} in {self._root} could '
                            f'both be {path.name}: remove one')
        return fitting[0] if fitting else None


class _Reader:
    """Reads label files, and collects what only all files together can show: a file used twice, boxes in pixels."""

    def __init__(self, data: RawData, names: Names, files: _LabelFiles) -> None:
        self._data = data
        self._names = names
        self._files = files
        self._owners: dict[Path, Path] = {}
        self._pixels: list[str] = []
        self._keypoints: list[str] = []
        self._corners: list[str] = []
        self._beyond = 0
        self._boxes = 0

    def read(self, image: Path) -> Record | None:
        width, height, fault = image_size(str(image))
        root = self._data.root
        if fault:
            self._data.faults.append(Fault(relative(image, root), fault))
            self._data.used.add(image)
            return None
        path = self._files.of(image)
        boxes = []
        if path:
            owner = self._owners.setdefault(path, image)
            if owner != image:
                raise UserError(f'{relative(path, root)} in {root} could belong to {relative(owner, root)} or to '
                                f'{relative(image, root)}: give every image its own name')
            self._data.used.add(path)
            boxes = self._lines(path, (width, height))
        return Record(relative(image, root), width, height, boxes)

    def _lines(self, path: Path, size: tuple[int, int]) -> list[Box]:
        boxes = []
        names = self._names.of(path)
        for number, line in enumerate(read_text(path, self._data.notes).splitlines(), start=1):
            if not line.strip():
                continue
            where = f'{relative(path, self._data.root)}:{number}'
            self._boxes += 1
            try:
                boxes.append(self._box(line, size, names, where))
            except ValueError as error:
                self._data.faults.append(Fault(where, str(error)[:300]))
        return boxes

    def _box(self, line: str, size: tuple[int, int], names: list[str], where: str) -> Box:
        globox = import_globox()
        numbers = line.split()
        keypoints = self._names.yaml.keypoint_numbers if self._names.yaml else 0
        if keypoints and len(numbers) not in (5, 5 + keypoints):
            raise ValueError(f'has {len(numbers)} numbers, but by kpt_shape a box with keypoints has {5 + keypoints}')
        numbers = numbers[:5] if keypoints else numbers
        if len(numbers) != 5 and (len(numbers) < 7 or len(numbers) % 2 == 0):
            raise ValueError(f'has {len(numbers)} numbers: a box has 5, an outline an odd number of at least 7; '
                             'keypoints need kpt_shape in data.yaml')
        read = globox.BoundingBox.from_yolo_v5 if len(numbers) == 5 else globox.BoundingBox.from_yolo_seg
        try:
            box = read(' '.join(numbers), image_size=size)
            number = float(box.label)
            corners = box.ltrb
        except (globox.ParsingError, ValueError, AssertionError, OverflowError) as error:
            raise ValueError(f'is not a valid box ({error}): {line.strip()[:100]}') from error
        if not all(map(is_number, corners)):
            raise ValueError(f'is not a valid box: {line.strip()[:100]}')
        if not (number.is_integer() and 0 <= number < len(names)):
            raise ValueError(f'has the class {box.label}, but there are {len(names)} class names, counted from 0')
        self._watch([float(number) for number in numbers[1:]], f'{where} is {line.strip()[:100]}')
        points = [float(value) * size[place % 2] for place, value in enumerate(numbers[1:])]
        return Box(names[int(number)], corners, where, segmentation=[points] if len(numbers) > 5 else None)

    def _watch(self, numbers: list[float], shown: str) -> None:
        """Note lines that look like another format than the one they are read as."""
        if max(map(abs, numbers)) > 2:
            self._pixels.append(shown)
        if len(numbers) > 6 and len(numbers) % 3 == 1 and {0., 1., 2.} >= set(numbers[6::3]) >= {2.}:
            self._keypoints.append(shown)
        x, y, w, h = numbers[:4]
        if len(numbers) == 4 and x < w <= 1.001 and y < h <= 1.001:
            self._corners.append(shown)
            self._beyond += max(x + w / 2, y + h / 2) > 1.01 or min(x - w / 2, y - h / 2) < -0.01

    def check(self) -> None:
        """Raise a `UserError` if most lines seem to be in another format than the one they were read as."""
        if len(self._pixels) * 2 > self._boxes:
            raise UserError(f'the boxes in {self._data.root} are in pixels, the first: {self._pixels[0]}; YOLO needs '
                            'them divided by the width and height of the image')
        if len(self._keypoints) * 2 > self._boxes:
            raise UserError(f'the lines in {self._data.root} look like boxes with keypoints, the first: '
                            f"{self._keypoints[0]}; say how many in data.yaml: 'kpt_shape: [NUMBER, 3]'")
        if len(self._corners) >= 0.95 * self._boxes and self._beyond >= 0.1 * self._boxes > 0:
            raise UserError(f'the boxes in {self._data.root} look like x1, y1, x2, y2: read as center, width and '
                            f'height, as YOLO has them, {self._beyond} of {self._boxes} reach beyond their images; the '
                            f'first: {self._corners[0]}')
