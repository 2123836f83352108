"""From a folder in any of the forms to `RawData`, with an account of every file that was not used."""
from __future__ import annotations

import os
from collections import defaultdict
from pathlib import Path

from sparse_rcnn_mm.datasets.image_files import is_image
from sparse_rcnn_mm.datasets.scan import Scan, names_of, scan
from sparse_rcnn_mm.errors import UserError

from .forms import recognize
from .raw_data import UNSPLIT, RawData, counted
from .yolo_form import is_label_file


def read_data(path: str | os.PathLike) -> RawData:
    """Read a data set in one of `FORMS`.

    Args:
        path: its folder; or one annotation file: COCO or LVIS JSON, the YAML file of YOLO data, ...
    Raises:
        UserError: there is nothing of these, it could be read in two ways, or it cannot be read at all.
    """
    found = scan(path)
    form, files = recognize(found)
    try:
        data = form.read(found, files)
    except RecursionError as error:
        raise UserError(f'{found.root}: a file is nested too deeply to be read') from error
    _leave_out_unsplit(data)
    data.splits = {name: data.splits[name] for name in (UNSPLIT, 'train', 'val', 'test') if name in data.splits}
    data.notes = [*dict.fromkeys(data.notes), *_account(data, found)]
    return data


def _leave_out_unsplit(data: RawData) -> None:
    """Images of no split beside a training split are not guessed to be of one."""
    if UNSPLIT in data.splits and 'train' in data.splits:
        for image in data.splits.pop(UNSPLIT).coco['images']:
            data.unused[data.root / image['file_name']] = 'neither a list nor a folder tells their split'


def _account(data: RawData, found: Scan) -> list[str]:
    """A line for every kind and reason of files that are not used."""
    used = data.used | {data.root / image['file_name'] for split in data.splits.values()
                        for image in split.coco['images']}
    unused: dict[tuple[str, str], list[Path]] = defaultdict(list)
    for path in found.files:
        if path not in used and (kind := _kind(path)):
            unused[kind, data.unused.get(path, _GENERAL[kind])].append(path)
    lines = [f'not used: {counted(len(paths), kind)} ({reason}): {names_of(paths, data.root)}'
             for (kind, reason), paths in unused.items()]
    return lines + found.skipped_lines


_GENERAL = {'image': 'no annotation is about them', 'JSON file': 'not in this form', 'XML file': 'not in this form',
            'CSV file': 'not in this form', 'label file': 'of no image in use', 'picture': 'of a type that is not read'}
_UNREAD = ('.heic', '.heif', '.dng', '.cr2', '.cr3', '.nef', '.arw', '.raw', '.exr', '.psd', '.svg', '.dcm', '.npy')


def _kind(path: Path) -> str:
    if is_image(path):
        return 'image'
    by_suffix = {'.json': 'JSON file', '.xml': 'XML file', '.csv': 'CSV file', **dict.fromkeys(_UNREAD, 'picture')}
    return by_suffix.get(path.suffix.lower()) or ('label file' if is_label_file(path) else '')
