"""Writes checkpoint files atomically, so that a file is never incomplete."""
from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sparse_rcnn_mm.errors import UserError

# The name of an unfinished file. A process that is killed while writing leaves one behind.
UNFINISHED = '.part'


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield the path of an unfinished file beside `path`, and rename it to `path` if there was no error."""
    unfinished = path.with_name(path.name + UNFINISHED)
    try:
        yield unfinished
        os.replace(unfinished, path)
    except Exception:
        with suppress(OSError):
            unfinished.unlink()
        raise


def write_checkpoint(contents: dict[str, Any], path: str | os.PathLike) -> None:
    """Write `contents` to `path` in torch's format, with a checksum of every record.

    A temporary file beside `path` is written, flushed to disk and renamed. So even if the process or the machine stops
    at any moment, `path` is either the old or the new file, and complete.

    Raises:
        UserError: the file cannot be written, for example because the disk is full. The old file is unchanged.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as unfinished, unfinished.open('wb') as file:
            torch.save(contents, file)
            file.flush()
            os.fsync(file.fileno())
        _sync_folder(path.parent)
    except (OSError, RuntimeError) as error:  # torch reports a failed write as RuntimeError
        raise UserError(f'{path} cannot be written ({_reason(error)}; {_free(path.parent)}): no checkpoint was '
                        'changed; make room and continue with --resume') from error


def write_text(text: str, path: str | os.PathLike) -> None:
    """Write a small text file atomically, without waiting for the disk."""
    with replacing(Path(path)) as unfinished:
        unfinished.write_text(text)


def remove_unfinished(folder: str | os.PathLike) -> None:
    """Delete unfinished files that an interrupted `write_checkpoint` left in a folder."""
    for path in Path(folder).glob(f'*.pth{UNFINISHED}'):
        path.unlink(missing_ok=True)


def not_finite(contents: Any, name: str = '') -> list[str]:
    """The names of the tensors in nested containers that contain NaN or infinity."""
    if isinstance(contents, Tensor):
        if not contents.is_floating_point() or not contents.numel():
            return []
        least, most = contents.aminmax()  # NaN if any value is NaN; one pass, no temporary tensors
        return [] if least.isfinite() and most.isfinite() else [name]
    if isinstance(contents, dict):
        items = contents.items()
    elif isinstance(contents, (list, tuple)):
        items = enumerate(contents)  # type: ignore[assignment]
    else:
        return []
    return [bad for key, value in items for bad in not_finite(value, f'{name}.{key}' if name else str(key))]


def _sync_folder(folder: Path) -> None:
    """Flush a rename to disk, if the system can: Windows and some network file systems cannot open a folder."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(handle)
    except OSError:
        pass
    finally:
        os.close(handle)


def _reason(error: BaseException) -> str:
    """The system's error message, without the text that torch may have added."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
        cause = cause.__cause__ or cause.__context__
    return str(error).splitlines()[0][:200]


def _free(folder: Path) -> str:
    try:
        return f'{shutil.disk_usage(folder).free / 1e6:.0f} MB are free there'
    except OSError:
        return f'the folder {folder} cannot be read'
