"""Reads a folder in any supported format to `RawData`, and lists every file that was not used."""
from __future__ import annotations

import os
from collections import defaultdict
from pathlib import Path

from sparse_rcnn_mm.datasets.image_files import is_image
from sparse_rcnn_mm.datasets.scan import Scan, names_of, scan
from sparse_rcnn_mm.errors import UserError

from .forms import recognize
from .raw_data import UNSPLIT, RawData, counted
from .yolo_form import is_image_list, is_label_file


def read_data(path: str | os.PathLike, masks: bool = False) -> RawData:
    """Read a data set in one of the supported formats (`FORMS`).

    Args:
        path: the folder, or one annotation file: COCO or LVIS JSON, the YAML file of YOLO data, ...
        masks: the data is for a model with masks. This matters where masks are in files of their own, as in VOC.

    Raises:
        UserError: no format or more than one fits, or the files cannot be read.
    """
    found = scan(path)
    form, files = recognize(found)
    try:
        data = (form.read_masks if masks and form.read_masks else form.read)(found, files)
    except RecursionError as error:
        raise UserError(f'{found.root}: a file is nested too deeply to be read') from error
    _leave_out_unsplit(data)
    data.splits = {name: data.splits[name] for name in (UNSPLIT, 'train', 'val', 'test') if name in data.splits}
    data.notes = [*dict.fromkeys(data.notes), *_account(data, found)]
    return data


def _leave_out_unsplit(data: RawData) -> None:
    """Leave out images without a split if the others have one: their split is not guessed."""
    if UNSPLIT in data.splits and 'train' in data.splits:
        for image in data.splits.pop(UNSPLIT).coco['images']:
            data.unused[data.root / image['file_name']] = 'no list and no folder says which split they are in'


def _account(data: RawData, found: Scan) -> list[str]:
    """One line for each kind of unused files and each reason."""
    used = data.used | {data.root / image['file_name'] for split in data.splits.values()
                        for image in split.coco['images']}
    unused: dict[tuple[str, str], list[Path]] = defaultdict(list)
    for path in found.files:
        if path not in used and (kind := _kind(path)):
            unused[kind, data.unused.get(path, _GENERAL[kind])].append(path)
    lines = [f'not used: {counted(len(paths), kind)} ({reason}): {names_of(paths, data.root)}'
             for (kind, reason), paths in unused.items()]
    return lines + found.skipped_lines


_GENERAL = {'image': 'no annotation names them', 'JSON file': 'another format', 'XML file': 'another format',
            'CSV file': 'another format', 'label file': 'of no image in use', 'list': 'of images',
            'picture': 'an unsupported type'}
_UNREAD = ('.heic', '.heif', '.dng', '.cr2', '.cr3', '.nef', '.arw', '.raw', '.exr', '.psd', '.svg', '.dcm', '.npy')


def _kind(path: Path) -> str:
    if is_image(path):
        return 'image'
    by_suffix = {'.json': 'JSON file', '.xml': 'XML file', '.csv': 'CSV file', **dict.fromkeys(_UNREAD, 'picture')}
    if path.suffix.lower() in by_suffix:
        return by_suffix[path.suffix.lower()]
    return 'label file' if is_label_file(path) else 'list' if is_image_list(path) else ''
