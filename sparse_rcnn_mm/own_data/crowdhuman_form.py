"""Data sets in CrowdHuman's odgt files. There is one class; boxes include hidden parts and parts outside the image."""
from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from sparse_rcnn_mm.datasets.image_files import ImageSize, image_size, image_sizes
from sparse_rcnn_mm.datasets.scan import Scan, scan
from sparse_rcnn_mm.errors import UserError
from sparse_rcnn_mm.own_outputs import mark

from .locate import Images
from .odgt import OdgtRecord, is_ignored, read_odgt
from .raw_data import Box, Fault, RawData, Record, Split, coco_of, counted, one_file_a_split, relative

NAME = 'CrowdHuman odgt'
CLASS = 'person'
_CATEGORIES = {CLASS: 1}


def recognize(scan: Scan) -> list[Path]:
    """Return all odgt files."""
    return list(scan.with_suffix('.odgt'))


def read(scan: Scan, paths: list[Path]) -> RawData:
    """Read a data set with one odgt file per split. A box with `extra.ignore` is a crowd box; other keys are unused."""
    data = RawData(scan.root, NAME, {})
    images = Images(scan)
    everything: list[tuple[str, dict]] = []
    outside: list[str] = []
    for name, path in one_file_a_split(paths, scan.root).items():
        records = read_odgt(path, name, data)
        found = _find(records, path, name, images, data)
        split = [_record(record, *found[record.image], outside, data.root) for record in records
                 if record.image in found]
        if any(record.boxes for record in split):
            data.splits[name] = Split(relative(path, scan.root), coco_of(split, _CATEGORIES))
        else:
            data.notes.append(f'{relative(path, scan.root)} has no boxes and is left out')
        everything += (box for record in records for box in record.boxes)
    if not data.splits:
        raise UserError(f'no odgt file in {scan.root} has any box' + (
            f': {data.faults[0].where} {data.faults[0].what}' if data.faults else ''))
    data.notes += [*_decided(everything, outside), *images.notes]
    return data


def _decided(boxes: list[tuple[str, dict]], outside: list[str]) -> Iterator[str]:
    """Yield one sentence for each thing a user should know about the boxes."""
    if untagged := [where for where, box in boxes if box.get('tag') != CLASS and not is_ignored(box)]:
        yield (f'{counted(len(untagged), "box")} with another tag than {CLASS}, but without extra.ignore, taken as '
               f'{CLASS}, as the authors of Sparse R-CNN take them; the first: {untagged[0]}')
    if outside:
        yield f'{counted(len(outside), "box")} completely outside of the image skipped; the first: {outside[0]}'


def _find(records: list[OdgtRecord], path: Path, split: str, images: Images,
          data: RawData) -> dict[str, tuple[Path, ImageSize]]:
    """Find the image of each record, by name. Records without an image are added to the faults of `data`.

    Raises:
        UserError: no record has an image.
    """
    places = {record.image: images.of_stem(record.image, path, split) for record in records}
    if records and not any(places.values()):
        raise UserError(f'the images of {path} are not below {data.root}: the first is {records[0].image}.jpg')
    owners: dict[Path, str] = {}
    for name, place in places.items():
        if place and owners.setdefault(place, name) != name:
            raise UserError(f'{owners[place]} and {name} in {path} are both the image {relative(place, data.root)}: '
                            'give every image one line')
    image_sizes([place for place in places.values() if place])  # several at a time
    found = {}
    for record in records:
        place = places[record.image]
        size = image_size(str(place)) if place else ImageSize(fault='there is no such image')
        if size.fault or not place:
            data.faults.append(Fault(f'{record.image} ({record.where})', size.fault))
            data.used.update({place} if place else ())
        else:
            found[record.image] = place, size
    return found


def _record(record: OdgtRecord, place: Path, size: ImageSize, outside: list[str], root: Path) -> Record:
    """Make the record of an image. Boxes outside the image are dropped, and their places are added to `outside`."""
    boxes = []
    for where, box in record.boxes:
        x, y, width, height = box['fbox']
        if min(width, height) > 0 and x < size.width and y < size.height and x + width > 0 and y + height > 0:
            boxes.append(Box(CLASS, (x, y, x + width, y + height), where, is_ignored(box)))
        else:
            outside.append(where)
    return Record(relative(place, root), size.width, size.height, boxes)


def convert(path: str, out: Path) -> list[str]:
    """Write OUT/SPLIT.json for every odgt file, byte for byte as the authors' converter does.

    Source: `crowdhumantools/convert_crowdhuman_to_coco.py` of PeizeSun/SparseR-CNN, which numbers images and boxes
    from 1, uses `fbox` as the box and also keeps `vbox`. Like the converter, this keeps boxes outside the image.

    Args:
        path: the folder with the odgt files and the images, or one odgt file.

    Returns:
        A line for each file.

    Raises:
        UserError: a line or an image is invalid, or OUT is the folder of the data.
    """
    looked = scan(path)
    if not (paths := recognize(looked)):
        raise UserError(f'{looked.root} holds no odgt file')
    if out.resolve() == looked.root:
        raise UserError(f'{out} is the folder of the data: write to another one, such as {out / "annotations"}')
    data, images = RawData(looked.root, NAME, {}), Images(looked)
    contents = {}
    for split, file in one_file_a_split(paths, looked.root).items():
        records = read_odgt(file, split, data)
        found = _find(records, file, split, images, data)
        if data.faults:
            raise UserError(f'{counted(len(data.faults), "fault")} in {looked.root}, the first: {data.faults[0].where} '
                            f"{data.faults[0].what}; 'sparse-rcnn inspect' lists them")
        contents[out / f'{split or file.stem}.json'] = _as_authors(records, found)
    if not out.exists() or not any(out.iterdir()):
        mark(out)  # if this is inside the data folder, training on that folder still works
    for target, coco in contents.items():
        target.write_text(json.dumps(coco))
    return [f'{target}: {len(coco["images"])} images, {counted(len(coco["annotations"]), "box")}'
            for target, coco in contents.items()]


def _as_authors(records: list[OdgtRecord], found: dict[str, tuple[Path, ImageSize]]) -> dict[str, list[dict]]:
    """Return the COCO dict of the authors' converter, with the keys in the same order."""
    coco: dict[str, list[dict]] = {'images': [], 'annotations': [], 'categories': [{'id': 1, 'name': CLASS}]}
    for image_id, record in enumerate(records, start=1):
        place, size = found[record.image]
        coco['images'].append({'file_name': place.name, 'id': image_id, 'height': size.height, 'width': size.width})
        for _, box in record.boxes:
            coco['annotations'].append({
                'id': len(coco['annotations']) + 1, 'category_id': 1, 'image_id': image_id, 'bbox_vis': box['vbox'],
                'bbox': box['fbox'], 'area': box['fbox'][2] * box['fbox'][3], 'iscrowd': int(is_ignored(box))})
    return coco
