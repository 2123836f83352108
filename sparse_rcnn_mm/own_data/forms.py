"""The forms of data sets that are read. A further one is a file like `voc_form.py` and a line in `FORMS`."""
from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from sparse_rcnn_mm.datasets.scan import Scan
from sparse_rcnn_mm.errors import UserError

from . import coco_form, lvis_form, open_images_form, voc_form, yolo_form
from .other_forms import other_form
from .raw_data import RawData, relative


class Form(NamedTuple):
    """One way to write a data set down.

    Attributes:
        name: in messages and documents.
        recognize: the files of this form among those of a scan.
        read: reads them; the images are among the files of the scan.
        files: by which files it is recognized, for documents.
        splits: what tells the splits, for documents.
    """
    name: str
    recognize: Callable[[Scan], list[Path]]
    read: Callable[[Scan, list[Path]], RawData]
    files: str
    splits: str


_WORDS = 'words in the names of files or folders: `train.json`, `instances_val2017.json`, `valid/labels.json`'
_ARCHIVES = ('.zip', '.tar', '.tar.gz', '.tgz', '.tar.bz2', '.tar.xz', '.7z', '.rar')
FORMS = (
    Form(coco_form.NAME, coco_form.recognize, coco_form.read, '`*.json` with `images` and `annotations`', _WORDS),
    Form(lvis_form.NAME, lvis_form.recognize, lvis_form.read, '`*.json` of COCO with `neg_category_ids`',
         'as in COCO JSON: `lvis_v1_train.json`'),
    Form(voc_form.NAME, voc_form.recognize, voc_form.read, '`*.xml` with an `annotation`',
         'lists such as `ImageSets/Main/train.txt`, else folder names'),
    Form(yolo_form.NAME, yolo_form.recognize, yolo_form.read,
         '`data.yaml` with `names`, or `classes.txt`, `obj.names` and label files', '`data.yaml`, else folder names'),
    Form(open_images_form.NAME, open_images_form.recognize, open_images_form.read,
         '`*.csv` with `ImageID`, `LabelName`, `XMin`, ...; names in `class-descriptions*.csv`',
         'words in the names of files: `validation-annotations-bbox.csv`'),
)


def form_names(word: str = 'or') -> str:
    """All names in one phrase."""
    *first, last = (form.name for form in FORMS)
    return f'{", ".join(first)} {word} {last}'


def form_table() -> str:
    """The table in docs/own_data.md."""
    rows = [f'| {form.name} | {form.files} | {form.splits} |' for form in FORMS]
    return '\n'.join(['| form | recognized by | splits from |', '|---|---|---|', *rows])


def recognize(scan: Scan) -> tuple[Form, list[Path]]:
    """The form of a data set, and its files.

    Raises:
        UserError: there is none, or more than one.
    """
    found = [(form, paths) for form in FORMS if (paths := form.recognize(scan))]
    if len(found) > 1:
        (one, ones), (other, others) = found[:2]
        raise UserError(f'{scan.root} holds {one.name} ({relative(ones[0], scan.root)}) and {other.name} '
                        f'({relative(others[0], scan.root)}): move away the one that is not meant, or give its file '
                        'instead of the folder')
    if found:
        return found[0]
    if unread := other_form(scan):
        raise UserError(f'{relative(unread[1], scan.root)} in {scan.root} is {unread[0]}, which is not read here: '
                        f'export the data as {form_names()}')
    if archive := next((path for path in scan.files if path.name.lower().endswith(_ARCHIVES)), None):
        raise UserError(f'{scan.root} holds no annotations that can be read, but an archive: unpack '
                        f'{relative(archive, scan.root)}')
    raise UserError(f'{scan.root} holds {len(scan.images)} images, but no annotations in a form known here: '
                    f'{form_names()}; YOLO txt needs a data.yaml or classes.txt with the class names')
