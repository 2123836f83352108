"""The supported data set formats. To add one, write a file like `voc_form.py` and add a line to `FORMS`."""
from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from sparse_rcnn_mm.datasets.scan import Scan
from sparse_rcnn_mm.errors import UserError

from . import coco_form, crowdhuman_form, lvis_form, open_images_form, voc_form, yolo_form
from .other_forms import other_form
from .raw_data import RawData, relative


class Form(NamedTuple):
    """A data set format.

    Attributes:
        name: the name in messages and in the documentation.
        recognize: returns the annotation files of this format in a scanned folder.
        read: reads these files and finds their images in the scanned folder.
        files: which files the format is recognized by, for the documentation.
        splits: where the splits come from, for the documentation.
        read_masks: like `read`, for training and testing of masks, if that reads other files or splits.
    """
    name: str
    recognize: Callable[[Scan], list[Path]]
    read: Callable[[Scan, list[Path]], RawData]
    files: str
    splits: str
    read_masks: Callable[[Scan, list[Path]], RawData] | None = None


_WORDS = 'words in the names of files or folders: `train.json`, `instances_val2017.json`, `valid/labels.json`'
_ARCHIVES = ('.zip', '.tar', '.tar.gz', '.tgz', '.tar.bz2', '.tar.xz', '.7z', '.rar')
FORMS = (
    Form(coco_form.NAME, coco_form.recognize, coco_form.read, '`*.json` with `images` and `annotations`', _WORDS),
    Form(lvis_form.NAME, lvis_form.recognize, lvis_form.read, '`*.json` of COCO with `neg_category_ids`',
         'as in COCO JSON: `lvis_v1_train.json`'),
    Form(voc_form.NAME, voc_form.recognize, voc_form.read, '`*.xml` with an `annotation`',
         'lists such as `ImageSets/Main/train.txt`, else folder names; for masks `ImageSets/Segmentation/train.txt`',
         voc_form.read_masks),
    Form(yolo_form.NAME, yolo_form.recognize, yolo_form.read,
         '`data.yaml` with `names`, or `classes.txt`, `obj.names` and label files',
        '`data.yaml`, else lists of images such as `valid.txt`, else folder names'),
    Form(open_images_form.NAME, open_images_form.recognize, open_images_form.read,
         '`*.csv` with `ImageID`, `LabelName`, `XMin`, ...; names in `class-descriptions*.csv`',
         'words in the names of files: `validation-annotations-bbox.csv`'),
    Form(crowdhuman_form.NAME, crowdhuman_form.recognize, crowdhuman_form.read, '`*.odgt`',
         'words in the names of files: `annotation_val.odgt`'),
)


def form_names(word: str = 'or') -> str:
    """The names of all formats in one phrase: 'A, B or C'."""
    *first, last = (form.name for form in FORMS)
    return f'{", ".join(first)} {word} {last}'


def form_table() -> str:
    """The Markdown table of formats in docs/own_data.md."""
    rows = [f'| {form.name} | {form.files} | {form.splits} |' for form in FORMS]
    return '\n'.join(['| form | recognized by | splits from |', '|---|---|---|', *rows])


def has_annotations(scan: Scan) -> bool:
    """Whether a folder holds annotations of any kind, supported or not."""
    return any(form.recognize(scan) for form in FORMS) or other_form(scan) is not None


def recognize(scan: Scan) -> tuple[Form, list[Path]]:
    """Return the format of a data set, and its annotation files.

    Raises:
        UserError: no format or more than one fits.
    """
    found = [(form, paths) for form in FORMS if (paths := form.recognize(scan))]
    if len(found) > 1:
        (one, ones), (other, others) = found[:2]
        raise UserError(f'{scan.root} holds {one.name} ({relative(ones[0], scan.root)}) and {other.name} '
                        f'({relative(others[0], scan.root)}): remove the one that you do not want, or pass one file '
                        'instead of the folder')
    if found:
        return found[0]
    if unread := other_form(scan):
        raise UserError(f'{relative(unread[1], scan.root)} in {scan.root} is {unread[0]}, which is not supported: '
                        f'export the data as {form_names()}')
    if archive := next((path for path in scan.files if path.name.lower().endswith(_ARCHIVES)), None):
        raise UserError(f'{scan.root} holds no annotations in a supported format, but an archive: unpack '
                        f'{relative(archive, scan.root)}')
    raise UserError(f'{scan.root} holds {len(scan.images)} images, but no annotations in a supported format: '
                    f'{form_names()}; YOLO txt needs a data.yaml or classes.txt with the class names')
