"""Reads data sets in Pascal VOC XML: one file per image, parsed by globox.

Corners are used as written, as pixel edges counted from 0: LabelImg, CVAT and Roboflow write them so, and globox reads
them so. Only the original files of the VOC challenge, recognized by their database name, count pixels from 1 and
include the last one: there, 1 is subtracted from the left and top edges. For masks, see `voc_masks`.
"""
from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

from sparse_rcnn_mm.datasets.coco_json import is_number
from sparse_rcnn_mm.datasets.image_files import image_size
from sparse_rcnn_mm.datasets.scan import Scan
from sparse_rcnn_mm.errors import UserError

from .locate import Images
from .raw_data import (
    TURNED,
    Box,
    Fault,
    RawData,
    Record,
    Split,
    coco_of,
    counted,
    import_globox,
    relative,
    split_of,
    turned,
)
from .text import flag, name_fault, read_bytes, read_text
from .voc_masks import CLASSES, VocMasks, folder_above, is_mask
from .voc_sets import image_sets

NAME = 'Pascal VOC XML'
_ROOT = re.compile(rb'<\0?a\0?n\0?n\0?o\0?t\0?a\0?t\0?i\0?o\0?n\0?[\s>/]', re.IGNORECASE)  # also in UTF-16


def recognize(scan: Scan) -> list[Path]:
    """Return the XML files whose root is `annotation`; that of CVAT's own format is `annotations`."""
    return [path for path in scan.with_suffix('.xml') if _ROOT.search(read_bytes(path))]


def read(scan: Scan, paths: list[Path]) -> RawData:
    """Read a data set with one XML file per image. If there are image sets, files that no set names are left out."""
    return _read_all(scan, paths, None)


def read_masks(scan: Scan, paths: list[Path]) -> RawData:
    """The same with masks. Images with boxes but without a file of masks are left out, unless there is none at all."""
    return _read_all(scan, paths, VocMasks(scan) or None)


def _read_all(scan: Scan, paths: list[Path], masks: VocMasks | None) -> RawData:
    data = RawData(scan.root, NAME, {})
    images = images_of(scan)
    sets = image_sets(scan.files, paths, data, masks is not None)
    records: dict[str, list[Record]] = defaultdict(list)
    owners: dict[str, Path] = {}
    unnamed: list[str] = []
    for path in paths:
        if sets is not None and path not in sets:
            data.unused[path] = 'in none of the image sets'
            continue
        split = (sets or {}).get(path) or split_of(Path(relative(path.parent, scan.root)))
        record = read_record(path, split, images, unnamed, data)
        if record and (record := with_masks(record, path, masks, data) if masks else record):
            if record.file_name in owners:
                raise UserError(f'{relative(owners[record.file_name], scan.root)} and {relative(path, scan.root)} in '
                                f'{scan.root} both name the image {record.file_name}: remove one, or fix <filename>')
            owners[record.file_name] = path
            records[split or split_of(Path(record.file_name).parent)].append(record)
    if not records:
        raise UserError(f'no XML file in {scan.root} can be read: ' + (
            f'{data.faults[0].where} {data.faults[0].what}' if data.faults else
            'none of the images in use has a file of masks' if data.unused and masks else
            'the image sets name none of them: mend or remove their lists'))
    _note(data, records, unnamed, masks)
    _mask_files(scan, data, masks is not None)
    data.notes += images.notes
    names = sorted({box.name for several in records.values() for record in several for box in record.boxes})
    ids = {name: index for index, name in enumerate(names)}
    for split, several in records.items():
        if any(record.boxes for record in several):
            data.splits[split] = Split(f'XML files of {split or "all"}', coco_of(several, ids))
        else:
            data.notes.append(f'the {split or "only"} split has no boxes and is skipped')
            data.unused.update({scan.root / record.file_name: 'its split has no boxes' for record in several})
    return data


def images_of(scan: Scan) -> Images:
    """The images of a folder. Files of masks have the same names and are not among them."""
    return Images(replace(scan, files=[path for path in scan.files if not is_mask(path)]))


def read_record(path: Path, split: str, images: Images, unnamed: list[str], data: RawData) -> Record | None:
    """Read an XML file; None if it has a fault, which is added to `data.faults`.

    Args:
        path: the file.
        split: its split, as `Images.find` takes it.
        images: the images of the data set.
        unnamed: gets the file if the image that it names does not exist, and the one with its own name is used.
        data: the data set.
    """
    source = relative(path, data.root)
    data.used.add(path)
    try:
        tree = _without_namespaces(ElementTree.fromstring(read_text(path, data.notes)))
    except (ElementTree.ParseError, ValueError, RecursionError) as error:
        data.faults.append(Fault(source, f'is not valid XML: {error}'))
        return None
    image = _image_of(path, tree, split, images, unnamed)
    width, height = (_whole(tree.findtext(f'size/{side}')) for side in ('width', 'height'))
    if not (width and height):
        width, height, fault = image_size(str(image))
        if fault:
            data.faults.append(Fault(f'{relative(image, data.root)} (the image of {source})', fault))
            data.used.add(image)
            return None
    return Record(relative(image, data.root), width, height, _boxes(tree, source, data))


def _without_namespaces(tree: ElementTree.Element) -> ElementTree.Element:
    """The same with tags as VOC has them."""
    for node in tree.iter():
        node.tag = str(node.tag).rpartition('}')[2]
    return tree


def _boxes(tree: ElementTree.Element, source: str, data: RawData) -> list[Box]:
    globox = import_globox()
    first = 1 if re.search(r'VOC\s?20\d\d', tree.findtext('source/database') or '') else 0
    boxes = []
    for number, node in enumerate(tree.iter('object'), start=1):
        where = f'{source}: object {number}'
        try:
            box = globox.BoundingBox.from_xml(node)
            x1, y1, x2, y2 = box.ltrb
        except (globox.ParsingError, ValueError, AssertionError) as error:
            data.faults.append(Fault(where, f'has no name or no valid bndbox ({error})'))
            continue
        name = box.label.strip()
        if fault := name_fault(name) or ('' if all(map(is_number, box.ltrb)) else 'has corners that are not numbers'):
            data.faults.append(Fault(where, fault if 'corners' in fault else f'has a name that {fault}'))
            continue
        difficult = flag(node.findtext('difficult'))
        if difficult is None:
            data.faults.append(Fault(where, f"needs 0 or 1 as difficult, not {node.findtext('difficult')!r}"))
            continue
        corners = (x1 - first, y1 - first, x2, y2)
        if degrees := _rotation(node):
            corners = turned(corners, degrees)
            data.notes.append(TURNED)
        boxes.append(Box(name, corners, where, difficult))
    return boxes


def _rotation(node: ElementTree.Element) -> float:
    """CVAT's attribute `rotation` of an object, in degrees; 0 if there is none."""
    text = next((one.findtext('value') for one in node.iter('attribute') if one.findtext('name') == 'rotation'), None)
    try:
        degrees = float(text or 0)
    except ValueError:
        return 0
    return degrees % 360 if is_number(degrees) else 0


def _image_of(path: Path, tree: ElementTree.Element, split: str, images: Images, unnamed: list[str]) -> Path:
    """Find the image that <filename> names, else the one with the name of the XML file."""
    named = (tree.findtext('filename') or '').strip()
    stem = path.name[:-len(path.suffix)]
    found = images.find(named, path, split) or images.of_stem(named, path, split) if named else None
    if found is None and (found := images.of_stem(stem, path, split)) and named:
        unnamed.append(relative(path, images.root))
    return found or path.with_name(Path(named.replace('\\', '/')).name.replace('\0', '') or stem)


def _whole(text: str | None) -> int:
    try:
        value = float(text or 0)
    except ValueError:
        return 0
    return int(value) if is_number(value) and value > 0 else 0


def with_masks(record: Record, path: Path, masks: VocMasks, data: RawData) -> Record | None:
    """Return the record of an XML file with its masks; None if it has boxes, but no file of masks."""
    file = masks.file_of(path)
    if file is None:
        if record.boxes:
            data.unused[data.root / record.file_name] = 'it has boxes, but no file of masks'
        return None if record.boxes else record
    data.used.add(file)
    try:
        return record._replace(boxes=masks.add_to(record.boxes, file, (record.width, record.height)))
    except ValueError as error:
        data.faults.append(Fault(relative(file, data.root), str(error)))
        return record


def _mask_files(scan: Scan, data: RawData, read: bool) -> None:
    """Say why the files of masks are not used that are not."""
    unread = 'masks of images that are not in use' if read else 'masks, which a config with masks reads'
    data.unused.update(dict.fromkeys(VocMasks(scan).all_files(), unread))
    data.unused.update({path: 'masks of classes, not of objects'
                        for path in scan.images if folder_above(path, CLASSES) is not None})


def _note(data: RawData, records: dict[str, list[Record]], unnamed: list[str], masks: VocMasks | None) -> None:
    count = sum(box.ignored for split in records.values() for record in split for box in record.boxes)
    if count:
        data.notes.append(f'{counted(count, "box")} marked difficult: neither training nor evaluation counts them')
    data.notes += masks.notes if masks else []
    if unnamed:
        data.notes.append(f'{counted(len(unnamed), "XML file")} whose <filename> does not exist, the '
                          f'first: {unnamed[0]}; the image with the name of the XML file is used instead')
