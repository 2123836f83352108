"""Marks the outputs of this package, so that they are never read as training data.

A folder is marked by a file in it, so it is recognized under any name and through any link. A COCO file is marked by
its `info`.
"""
from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

MARK = 'written_by_sparse_rcnn_mm.txt'
INFO = {'maker': 'sparse_rcnn_mm'}  # the `info` of our COCO files
_INFO_TEXT = b'"maker": "sparse_rcnn_mm"'
_HEAD = 2000  # the `info` is within this many bytes at the start of a COCO file
# Version 0.1.0 did not mark its folders. They are recognized by these files.
_KNOWN = ({'detections.json', 'detections.csv'}, {'inspection.txt', 'inspection.png'}, {'last_checkpoint'})


def mark(folder: str | os.PathLike) -> None:
    """Mark a folder as written by this package. The folder is created if it does not exist."""
    path = Path(folder, MARK)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text('sparse_rcnn_mm wrote this folder. With this file in it, it is never read as training data.\n')


def is_own_folder(names: Collection[str]) -> bool:
    """Whether a folder that contains these file names was written by this package."""
    return MARK in names or any(known <= set(names) for known in _KNOWN)


def is_own_json(path: Path) -> bool:
    """Whether a COCO file was written by this package."""
    with path.open('rb') as file:
        return _INFO_TEXT in file.read(_HEAD)
