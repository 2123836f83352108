"""The common result of all readers: the annotations as COCO dicts, and the faults found in the files."""
from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from sparse_rcnn_mm.errors import UserError

TURNED = "boxes with CVAT's attribute rotation: the upright box around each is used"
UNSPLIT = ''  # the split name of data without splits
SPLIT_WORDS = {
    'train': 'train', 'training': 'train', 'trainval': 'train',
    'val': 'val', 'valid': 'val', 'validation': 'val', 'minival': 'val', 'eval': 'val', 'evaluation': 'val',
    'dev': 'val',
    'test': 'test', 'testing': 'test'}


@dataclass(frozen=True)
class Fault:
    """An unusable entry: `where` names the file and line or id, `what` is the rest of the sentence."""
    where: str
    what: str


@dataclass
class Split:
    """The annotations of one split.

    Attributes:
        source: the file or folder that it was read from, relative to the data set's folder.
        coco: `images` with `file_name` relative to the data set's folder, `annotations` with a `source` that names
            the file and line or id, `categories`. Invalid entries are left out.
    """
    source: str
    coco: dict

    @property
    def counts(self) -> str:
        """The numbers of images and boxes, for messages."""
        return f'{len(self.coco["images"])} images, {len(self.coco["annotations"])} boxes'


@dataclass
class RawData:
    """A data set as it is on disk: nothing is corrected, and only unusable entries are left out.

    Attributes:
        root: the folder of the data set.
        form: the name of its format, one of `FORMS`.
        splits: the splits named train, val and test, or a single one named `UNSPLIT`.
        faults: the unusable entries.
        notes: other things that the user should know, one sentence each.
        used: annotation files that were read, and images with faults. Images of the splits need not be listed.
        unused: for files that were not used, the reason where it is known.
    """
    root: Path
    form: str
    splits: dict[str, Split]
    faults: list[Fault] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    used: set[Path] = field(default_factory=set)
    unused: dict[Path, str] = field(default_factory=dict)


def split_of(path: Path) -> str:
    """Derive the split from the words in a file name, else in its folders: 'instances_val2017.json' is val.

    Use it for annotation files, lists and folders. The name of an image says nothing about its split.
    """
    for part in (path.stem, *reversed(path.parts[:-1])):
        names = {SPLIT_WORDS[word] for word in re.split(r'[^a-z]+', part.lower()) if word in SPLIT_WORDS}
        if len(names) == 1:
            return names.pop()
    return UNSPLIT


def one_file_a_split(paths: list[Path], root: Path, told: Mapping[str, str] | None = None) -> dict[str, Path]:
    """The file of every split, by the words in its name, unless `told` has its split by its name.

    Raises:
        UserError: two could hold the same split.
    """
    by_split: dict[str, Path] = {}
    for path in paths:
        name = (told or {}).get(path.name) or split_of(Path(relative(path, root)))
        if name in by_split:
            raise UserError(f'{relative(by_split[name], root)} and {relative(path, root)} in {root} could both hold '
                            f'the {name or "only"} split: remove one, or name them by their split')
        by_split[name] = path
    return by_split


def counted(number: int, noun: str) -> str:
    """Join a number and a noun in singular or plural: '1 box', '2 boxes'."""
    plural = f'{noun}es' if noun.endswith(('x', 's')) else f'{noun}s'
    return f'{number} {noun if number == 1 else plural}'


class Box(NamedTuple):
    """A box as x1, y1, x2, y2 in pixels. `source` names the file and line; `ignored` boxes are treated like crowds.

    `segmentation` is its mask in COCO's form: a list of polygons x1, y1, x2, y2, ... in pixels, or run lengths.
    `mask_area` is the number of pixels of the mask, where it is known.
    """
    name: str
    corners: tuple[float, float, float, float]
    source: str
    ignored: bool = False
    segmentation: list[list[float]] | dict[str, Any] | None = None
    mask_area: int | None = None


class Record(NamedTuple):
    """An image and its boxes. `file_name` is relative to the data set's folder."""
    file_name: str
    width: int
    height: int
    boxes: list[Box]


def turned(corners: Sequence[float], degrees: float) -> tuple[float, float, float, float]:
    """The upright box around a box x1, y1, x2, y2 that is turned about its center."""
    x1, y1, x2, y2 = corners
    cos, sin = abs(math.cos(math.radians(degrees))), abs(math.sin(math.radians(degrees)))
    wide, high = ((x2 - x1) * cos + (y2 - y1) * sin) / 2, ((x2 - x1) * sin + (y2 - y1) * cos) / 2
    return (x1 + x2) / 2 - wide, (y1 + y2) / 2 - high, (x1 + x2) / 2 + wide, (y1 + y2) / 2 + high


def coco_of(records: list[Record], category_ids: dict[str, int]) -> dict:
    """Convert records to a COCO dict. Image and annotation ids count from 1."""
    coco: dict[str, list[dict]] = {'images': [], 'annotations': [], 'categories': [
        {'id': category_id, 'name': name} for name, category_id in category_ids.items()]}
    for image_id, (file_name, width, height, boxes) in enumerate(records, start=1):
        coco['images'].append({'id': image_id, 'file_name': file_name, 'width': width, 'height': height})
        for name, (x1, y1, x2, y2), source, ignored, segmentation, mask_area in boxes:
            coco['annotations'].append({
                'id': len(coco['annotations']) + 1,
                'image_id': image_id,
                'category_id': category_ids[name],
                'bbox': [x1, y1, x2 - x1, y2 - y1],
                'area': mask_area or (x2 - x1) * (y2 - y1),
                'iscrowd': int(ignored),
                'source': source,
                **({} if segmentation is None else {'segmentation': segmentation}),
            })
    return coco


def relative(path: Path, root: Path) -> str:
    """The path relative to `root`, with forward slashes."""
    return Path(os.path.relpath(path, root)).as_posix()


def import_globox() -> ModuleType:
    """Import globox, which reads Pascal VOC and YOLO. COCO data does not need it, so it is optional."""
    try:
        import globox
    except ImportError as error:
        raise UserError('reading Pascal VOC and YOLO annotations needs the package globox: '
                        'pip install globox==2.9.0') from error
    return globox
