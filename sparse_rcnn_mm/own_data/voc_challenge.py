"""Converts the files of the Pascal VOC challenge to COCO JSON, by its own image sets."""
from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from sparse_rcnn_mm.datasets.scan import scan
from sparse_rcnn_mm.datasets.voc import PascalVocDataset
from sparse_rcnn_mm.errors import UserError
from sparse_rcnn_mm.own_outputs import INFO

from .raw_data import RawData, Record, coco_of, counted, relative
from .voc_form import NAME, images_of, read_record, with_masks
from .voc_masks import VocMasks

KIT = 'VOCdevkit'


class Part(NamedTuple):
    """A file to write: the image sets in it, such as 'VOC2007/ImageSets/Main/test.txt', and whether it has masks."""
    sets: tuple[str, ...]
    masks: bool = False


PARTS = {
    'voc0712_trainval': Part(('VOC2007/ImageSets/Main/trainval.txt', 'VOC2012/ImageSets/Main/trainval.txt')),
    'voc2007_test': Part(('VOC2007/ImageSets/Main/test.txt',)),
    'voc2012_train_masks': Part(('VOC2012/ImageSets/Segmentation/train.txt',), masks=True),
    'voc2012_val_masks': Part(('VOC2012/ImageSets/Segmentation/val.txt',), masks=True),
}


def write_annotations(root: Path) -> Iterator[str]:
    """Write ROOT/annotations/PART.json for every part whose image sets are in ROOT/VOCdevkit. Yields a line for each.

    Raises:
        UserError: a file of the challenge is damaged or missing.
    """
    kit = root.absolute() / KIT
    found = scan(kit)
    images, masks = images_of(found), VocMasks(found)
    for name, part in PARTS.items():
        if missing := next((one for one in part.sets if not (kit / one).is_file()), None):
            yield f'{name}: not written, because {KIT}/{missing} is missing'
            continue
        masks.forget()
        data = RawData(found.root, NAME, {})
        records = [_record(found.root / path.rsplit('/', 3)[0] / f'Annotations/{line.split()[0]}.xml', data, images,
                           masks if part.masks else None)
                   for path in part.sets for line in (kit / path).read_text().splitlines() if line.strip()]
        coco = coco_of(records, {one: index for index, one in enumerate(PascalVocDataset.METAINFO['classes'], start=1)})
        place = root / 'annotations' / f'{name}.json'
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(json.dumps({'info': INFO, **coco}))
        difficult = sum(annotation['iscrowd'] for annotation in coco['annotations'])
        yield '; '.join([f'{place}: {counted(len(records), "image")}, {counted(len(coco["annotations"]), "box")}, '
                         f'{difficult} of them difficult', *(masks.notes if part.masks else [])])


def _record(path: Path, data: RawData, images: object, masks: VocMasks | None) -> Record:
    if not path.is_file():
        raise UserError(f'{path} is missing, which an image set names: unpack the archives again')
    record = read_record(path, '', images, [], data)  # type: ignore[arg-type]
    if record and masks:
        record = with_masks(record, path, masks, data)
    if data.faults:
        raise UserError(f'{data.faults[0].where} {data.faults[0].what}')
    if record is None:
        raise UserError(f'{relative(path, data.root)} has no file of masks: unpack the archives again')
    return record
