"""Find the checkpoint that a training goes on from."""
from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from sparse_rcnn_mm.errors import UserError

from .reading import allow_mmengine_checkpoints, read_checkpoint

HINT = 'last_checkpoint'


def newest_checkpoint(folder: str | os.PathLike, say: Callable[[str], None]) -> tuple[Path, dict[str, Any]] | None:
    """The checkpoint of the highest iteration in `folder` that is whole and holds an optimizer's state: path, contents.

    The files decide. What `last_checkpoint` says is used only where the folder itself has no checkpoint, as when
    they are written elsewhere: the file may be cut off, or be of the folder that this one was copied from.

    Args:
        say: is told of every file that is left out because it is damaged.

    Raises:
        UserError: there are checkpoints, but none to go on from.
    """
    folder = Path(folder)
    files = sorted(folder.glob('*.pth'))
    elsewhere = _hinted(folder)
    if not files and elsewhere is not None:
        say(f'{folder} has no checkpoint: taking {elsewhere}, to which {folder / HINT} points')
        files = [elsewhere]
    iterations = {path: _iteration(path, say) for path in files}
    candidates = [path for path, iteration in iterations.items() if iteration is not None]
    for path in sorted(candidates, key=lambda path: (iterations[path], path.stat().st_mtime), reverse=True):
        try:
            return path, read_checkpoint(path)
        except UserError as error:
            say(f'left out: {error}')
    if files:
        raise UserError(f'no checkpoint in {folder} can be gone on from: of {len(files)} files none is whole and holds '
                        'the state of an optimizer; start from the weights of one with --load-from and another '
                        '--work-dir')
    return None


def check_resumable(contents: dict[str, Any], path: str | os.PathLike) -> None:
    """Refuse a checkpoint that training cannot go on from.

    Raises:
        UserError: it lacks the iteration or the optimizer's state, as a file for inference does.
    """
    if _iteration_in(contents) is None:
        raise UserError(f'{path} holds weights without the state of the optimizer, so training cannot go on from it: '
                        'start a new one from its weights with --load-from')


def _hinted(folder: Path) -> Path | None:
    """What `last_checkpoint` points to, if that exists."""
    try:
        path = Path((folder / HINT).read_text().strip())
        return path if path.suffix == '.pth' and path.is_file() else None
    except (OSError, ValueError):  # missing; not text; a NUL in the name
        return None


def _iteration(path: Path, say: Callable[[str], None]) -> int | None:
    """How far a checkpoint was trained, None where training cannot go on from it. Reads its first kilobytes only."""
    allow_mmengine_checkpoints()
    try:
        return _iteration_in(torch.load(path, map_location='cpu', weights_only=True, mmap=True))
    except Exception:  # a damaged pickle can raise anything, and files of before torch 1.6 cannot be mapped
        try:
            return _iteration_in(read_checkpoint(path))
        except UserError as error:
            say(f'left out: {error}')
            return None


def _iteration_in(contents: Any) -> int | None:
    if not isinstance(contents, dict):
        return None
    parts = [contents.get(name) for name in ('meta', 'optimizer', 'message_hub')]
    if not all(isinstance(part, dict) for part in parts):
        return None
    iteration, epoch = (contents['meta'].get(name) for name in ('iter', 'epoch'))
    return iteration if type(iteration) is int and type(epoch) is int else None
