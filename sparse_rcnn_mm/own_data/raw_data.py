"""What the readers of all forms hand over: COCO dicts of what the files hold, and what is wrong with them."""
from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from sparse_rcnn_mm.errors import UserError

UNSPLIT = ''  # the name of the split of data that has none
SPLIT_WORDS = {
    'train': 'train', 'training': 'train', 'trainval': 'train',
    'val': 'val', 'valid': 'val', 'validation': 'val', 'minival': 'val', 'eval': 'val', 'evaluation': 'val',
    'dev': 'val',
    'test': 'test', 'testing': 'test'}


@dataclass(frozen=True)
class Fault:
    """An entry that cannot be used: `where` names the file and line or id, `what` is the rest of the sentence."""
    where: str
    what: str


@dataclass
class Split:
    """Annotations of one split.

    Attributes:
        source: the file or folder it was read from, relative to the data set's.
        coco: `images` with `file_name` relative to the data set's folder, `annotations` with a `source` that names
            the file and line or id, `categories`. Entries with faults are left out.
    """
    source: str
    coco: dict

    @property
    def counts(self) -> str:
        return f'{len(self.coco["images"])} images, {len(self.coco["annotations"])} boxes'


@dataclass
class RawData:
    """A data set as it lies on the disk: nothing is corrected or left out, but for entries that make no sense.

    Attributes:
        form: the name of one of `FORMS`.
        splits: by the names train, val, test; or one of the name `UNSPLIT`.
        faults: entries that make no sense.
        notes: what else a user should know, a sentence each.
        used: annotation files that were read, and images with faults. Those of the splits count as used anyway.
        unused: why a file was not used, where the reader knows.
    """
    root: Path
    form: str
    splits: dict[str, Split]
    faults: list[Fault] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    used: set[Path] = field(default_factory=set)
    unused: dict[Path, str] = field(default_factory=dict)


def split_of(path: Path) -> str:
    """The split of a path by the words in its name, else in its folders: 'instances_val2017.json' is val.

    For the path of an annotation file, a list or a folder. The name of an image tells no split.
    """
    for part in (path.stem, *reversed(path.parts[:-1])):
        names = {SPLIT_WORDS[word] for word in re.split(r'[^a-z]+', part.lower()) if word in SPLIT_WORDS}
        if len(names) == 1:
            return names.pop()
    return UNSPLIT


def counted(number: int, noun: str) -> str:
    """'1 box', '2 boxes'."""
    plural = f'{noun}es' if noun.endswith(('x', 's')) else f'{noun}s'
    return f'{number} {noun if number == 1 else plural}'


class Box(NamedTuple):
    """A box as x1, y1, x2, y2 in pixels; `source` names the file and line or object; `ignored` as COCO's crowds are."""
    name: str
    corners: tuple[float, float, float, float]
    source: str
    ignored: bool = False


class Record(NamedTuple):
    """An image, `file_name` relative to the data set's folder, with its boxes."""
    file_name: str
    width: int
    height: int
    boxes: list[Box]


def coco_of(records: list[Record], category_ids: dict[str, int]) -> dict:
    """The same as a COCO dict; ids of images and annotations count from 1."""
    coco: dict[str, list[dict]] = {'images': [], 'annotations': [], 'categories': [
        {'id': category_id, 'name': name} for name, category_id in category_ids.items()]}
    for image_id, (file_name, width, height, boxes) in enumerate(records, start=1):
        coco['images'].append({'id': image_id, 'file_name': file_name, 'width': width, 'height': height})
        for name, (x1, y1, x2, y2), source, ignored in boxes:
            coco['annotations'].append({
                'id': len(coco['annotations']) + 1,
                'image_id': image_id,
                'category_id': category_ids[name],
                'bbox': [x1, y1, x2 - x1, y2 - y1],
                'area': (x2 - x1) * (y2 - y1),
                'iscrowd': int(ignored),
                'source': source,
            })
    return coco


def relative(path: Path, root: Path) -> str:
    """The path as seen from `root`, with slashes."""
    return Path(os.path.relpath(path, root)).as_posix()


def import_globox() -> ModuleType:
    """The library that reads Pascal VOC and YOLO; imported where it is needed, as COCO data do without."""
    try:
        import globox
    except ImportError as error:
        raise UserError('reading Pascal VOC and YOLO annotations needs the package globox: '
                        'pip install globox==2.9.0') from error
    return globox
