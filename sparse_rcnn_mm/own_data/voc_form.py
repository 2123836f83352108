"""Data sets in Pascal VOC XML: one file an image, read by globox.

Corners are taken as they are written, as pixel edges counted from 0: that is what LabelImg, CVAT and Roboflow write and
what globox reads. Only the files of the VOC challenge itself, which name its database, count pixels from 1 and
include the last: there 1 is taken off the left and top edge.
"""
from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path
from xml.etree import ElementTree

from sparse_rcnn_mm.datasets.image_files import image_size, is_image
from sparse_rcnn_mm.errors import UserError

from .raw_data import Box, Fault, RawData, Record, Split, coco_of, import_globox, relative, split_of

_SETS = ('trainval', 'train', 'val', 'test')  # later ones prevail


def is_voc_xml(path: Path) -> bool:
    return path.suffix.lower() == '.xml' and b'<annotation' in path.read_bytes()[:500]


def read_voc_form(root: Path, files: list[Path], paths: list[Path]) -> RawData:
    """Read a data set of one XML file an image.

    Args:
        files: all files below `root`: the images, and `ImageSets/Main/*.txt` that tell the splits.
        paths: the XML files. Those that no image set names are left out where there are image sets.
    """
    data = RawData(root, 'Pascal VOC XML', {})
    images = defaultdict(list)
    for path in files:
        if is_image(path):
            images[path.stem].append(path)
    sets = _image_sets(files)
    records: dict[str, list[Record]] = defaultdict(list)
    left_out = 0
    for path in paths:
        split = sets.get((path.parent.parent, path.stem)) if sets else split_of(Path(relative(path, root)))
        if split is None:
            left_out += 1
        elif record := _read(path, root, images, data.faults):
            records[split].append(record)
    if left_out:
        data.notes.append(f'{left_out} XML files are in none of the image sets (ImageSets/Main) and are left out')
    if not records:
        raise UserError(f'the image sets in {root} (ImageSets/Main/*.txt) name none of the XML files' if sets else
                        f'no XML file in {root} can be read: {data.faults[0].where} {data.faults[0].what}')
    _note_difficult(data, records)
    names = sorted({box.name for split_records in records.values() for record in split_records for box in record.boxes})
    ids = {name: index for index, name in enumerate(names)}
    data.splits = {split: Split(f'XML files of {split or "all"}', coco_of(records[split], ids)) for split in records}
    return data


def _image_sets(files: list[Path]) -> dict[tuple[Path, str], str]:
    """The split of every (folder that holds ImageSets, name of an image)."""
    sets = {}
    lists = [path for path in files if path.stem in _SETS and path.suffix == '.txt' and 'ImageSets' in path.parts[-3:]]
    for path in sorted(lists, key=lambda path: _SETS.index(path.stem)):
        folder = path.parent if path.parent.name == 'ImageSets' else path.parent.parent
        for line in path.read_text().splitlines():
            if line.strip():
                sets[folder.parent, Path(line.split()[0]).stem] = split_of(Path(path.name))
    return sets


def _read(path: Path, root: Path, images: dict[str, list[Path]], faults: list[Fault]) -> Record | None:
    globox = import_globox()
    source = relative(path, root)
    try:
        tree = ElementTree.parse(path).getroot()
    except (OSError, ElementTree.ParseError, LookupError, ValueError) as error:
        faults.append(Fault(source, f'is no XML: {error}'))
        return None
    first = 1 if re.search(r'VOC\s?20\d\d', tree.findtext('source/database') or '') else 0
    boxes = []
    for number, node in enumerate(tree.iter('object'), start=1):
        where = f'{source}: object {number}'
        try:
            box = globox.BoundingBox.from_xml(node)
        except (globox.ParsingError, ValueError, AssertionError) as error:
            faults.append(Fault(where, f'has no name or no proper bndbox ({error})'))
            continue
        x1, y1, x2, y2 = box.ltrb
        difficult = (node.findtext('difficult') or '').strip() == '1'
        boxes.append(Box(box.label.strip(), (x1 - first, y1 - first, x2, y2), where, difficult))
    image = _image_of(path, tree, images)
    width, height = (_whole(tree.findtext(f'size/{side}')) for side in ('width', 'height'))
    if not (width and height):
        width, height, _ = image_size(str(image))
    return Record(relative(image, root), width, height, boxes)


def _image_of(path: Path, tree: ElementTree.Element, images: dict[str, list[Path]]) -> Path:
    """The image of the XML file's name, or of the name in it: of several, the one that shares most folders with it."""
    named = Path((tree.findtext('filename') or '').replace('\\', '/'))
    candidates = images.get(path.stem) or images.get(named.stem) or [path.with_name(named.name or path.stem)]
    return max(candidates, key=lambda image: len({*image.parent.parts} & {*path.parent.parts}))


def _whole(text: str | None) -> int:
    try:
        return int(float(text or 0))
    except ValueError:
        return 0


def _note_difficult(data: RawData, records: dict[str, list[Record]]) -> None:
    count = sum(box.ignored for split in records.values() for record in split for box in record.boxes)
    if count:
        data.notes.append(f'{count} boxes are marked difficult: neither training nor evaluation counts them')
