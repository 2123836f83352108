"""Whether a file is still the one that it was."""
from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

from sparse_rcnn_mm.datasets.image_files import digest


def stamp(path: str) -> str:
    """Size and time of a file, and digits for its content."""
    return f'{_size_and_time(path)} {digest(Path(path))}'


def is_same(path: str, stamped: str) -> bool:
    """Whether a file is what it was when it was stamped; the content is read only where the time changed."""
    size_and_time, _, content = stamped.rpartition(' ')
    return content != '' and (_size_and_time(path) == size_and_time or digest(Path(path)) == content)


def _size_and_time(path: str) -> str:
    try:
        status = os.stat(path)
    except OSError:  # it was removed meanwhile
        return ''
    return f'{status.st_size} {status.st_mtime_ns}'


def names_digest(names: Iterable[str]) -> str:
    """Digits for a list of names."""
    found = hashlib.sha256()
    for name in names:
        found.update(os.fsencode(name) + b'\0')
    return found.hexdigest()[:16]
