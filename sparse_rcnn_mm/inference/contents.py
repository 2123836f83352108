"""Detects whether a file has changed."""
from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

from sparse_rcnn_mm.datasets.image_files import digest


def stamp(path: str) -> str:
    """Return size and time of a file, and a digest of its content."""
    return f'{_size_and_time(path)} {digest(Path(path))}'


def is_same(path: str, stamped: str) -> bool:
    """Whether a file is unchanged since it was stamped. The content is read only if the time has changed."""
    size_and_time, _, content = stamped.rpartition(' ')
    return content != '' and (_size_and_time(path) == size_and_time or digest(Path(path)) == content)


def _size_and_time(path: str) -> str:
    try:
        status = os.stat(path)
    except OSError:  # the file was removed in the meantime
        return ''
    return f'{status.st_size} {status.st_mtime_ns}'


def size_of(path: str) -> int:
    """The size of a file in bytes, -1 if there is none."""
    try:
        return os.stat(path).st_size
    except OSError:
        return -1


def names_digest(names: Iterable[str]) -> str:
    """Return a digest of a list of names."""
    found = hashlib.sha256()
    for name in names:
        found.update(os.fsencode(name) + b'\0')
    return found.hexdigest()[:16]
