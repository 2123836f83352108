"""Write checkpoint files so that a name always stands for a whole file."""
from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sparse_rcnn_mm.errors import UserError

# What an unfinished file is called; a process that was killed while it wrote leaves one.
UNFINISHED = '.part'


def write_checkpoint(contents: dict[str, Any], path: str | os.PathLike) -> None:
    """Write `contents` to `path` as torch does, with a checksum of every record.

    It is written beside `path`, flushed to the disk and renamed: whenever the process or the machine stops, `path` is
    the old file or the new one, and whole.

    Raises:
        UserError: it cannot be written, for example because the disk is full; what was at `path` is unchanged.
    """
    path = Path(path)
    unfinished = path.with_name(path.name + UNFINISHED)
    try:
        with unfinished.open('wb') as file:
            torch.save(contents, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, path)
        _sync_folder(path.parent)
    except (OSError, RuntimeError) as error:  # torch reports a failed write as RuntimeError
        unfinished.unlink(missing_ok=True)
        raise UserError(f'{path} cannot be written ({_reason(error)}; {_free(path.parent)}): no checkpoint was '
                        'changed; make room and go on with --resume') from error


def write_text(text: str, path: str | os.PathLike) -> None:
    """Write a small text file in the same way, without waiting for the disk."""
    path = Path(path)
    unfinished = path.with_name(path.name + UNFINISHED)
    unfinished.write_text(text)
    os.replace(unfinished, path)


def remove_unfinished(folder: str | os.PathLike) -> None:
    """Delete what an interrupted `write_checkpoint` left in a folder."""
    for path in Path(folder).glob(f'*.pth{UNFINISHED}'):
        path.unlink(missing_ok=True)


def not_finite(contents: Any, name: str = '') -> list[str]:
    """The names of the tensors in nested containers that hold NaN or infinity."""
    if isinstance(contents, Tensor):
        if not contents.is_floating_point() or not contents.numel():
            return []
        least, most = contents.aminmax()  # both are NaN where any value is, in one pass without temporaries
        return [] if least.isfinite() and most.isfinite() else [name]
    if isinstance(contents, dict):
        items = contents.items()
    elif isinstance(contents, (list, tuple)):
        items = enumerate(contents)  # type: ignore[assignment]
    else:
        return []
    return [bad for key, value in items for bad in not_finite(value, f'{name}.{key}' if name else str(key))]


def _sync_folder(folder: Path) -> None:
    """Make a rename last, where the system can: Windows and some network file systems cannot open a folder."""
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
    """The system's words, which torch may have put a message of its own around."""
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
