"""Finds the checkpoint to resume from."""
from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from sparse_rcnn_mm.errors import UserError

from .reading import read_checkpoint

HINT = 'last_checkpoint'


def newest_checkpoint(folder: str | os.PathLike, say: Callable[[str], None]) -> tuple[Path, dict[str, Any]] | None:
    """Return path and contents of the newest intact checkpoint in `folder` that has optimizer state.

    The files decide: that of the last iteration is the newest, unless `last_checkpoint` names one that was written
    later, after training had gone back to an earlier checkpoint. If the folder has no checkpoints, because they are
    written elsewhere, `last_checkpoint` is used. It may be truncated, or point to the folder of which this is a copy.

    Args:
        folder: the work dir.
        say: is called with a message for every file that is skipped because it is damaged.

    Raises:
        UserError: there are checkpoints, but training cannot resume from any of them.
    """
    folder = Path(folder)
    files = sorted(folder.glob('*.pth'))
    elsewhere = _hinted(folder)
    if not files and elsewhere is not None:
        say(f'{folder} has no checkpoint: using {elsewhere}, to which {folder / HINT} points')
        files = [elsewhere]
    iterations = {path: _iteration(path, say) for path in files}
    candidates = [path for path, iteration in iterations.items() if iteration is not None]
    order = sorted(candidates, key=lambda path: (iterations[path], path.stat().st_mtime), reverse=True)
    last = next((path for path in order if elsewhere is not None and path.name == elsewhere.name), None)
    if last and last != order[0] and last.stat().st_mtime > order[0].stat().st_mtime:
        say(f'{last.name} was written after {order[0].name}, which has more iterations: training went back, and goes '
            f'on from {last.name}')
        order = [last, *(path for path in order if path != last)]
    for path in order:
        try:
            return path, read_checkpoint(path)
        except UserError as error:
            say(f'left out: {error}')
    if files:
        raise UserError(f'training cannot resume from {folder}: of {len(files)} checkpoints, none is intact and has '
                        'optimizer state; start from the weights of one with --load-from and another '
                        '--work-dir')
    return None


def check_resumable(contents: dict[str, Any], path: str | os.PathLike) -> None:
    """Refuse a checkpoint that training cannot resume from.

    Raises:
        UserError: it lacks the iteration or the optimizer state, such as a checkpoint for inference.
    """
    if _iteration_in(contents) is None:
        raise UserError(f'{path} has weights but no optimizer state, so training cannot resume from it: '
                        'start a new training from its weights with --load-from')


def _hinted(folder: Path) -> Path | None:
    """The file that `last_checkpoint` points to, if it exists."""
    try:
        path = Path((folder / HINT).read_text().strip())
        return path if path.suffix == '.pth' and path.is_file() else None
    except (OSError, ValueError):  # missing; not text; a NUL in the name
        return None


def _iteration(path: Path, say: Callable[[str], None]) -> int | None:
    """The iteration of a checkpoint, or None if training cannot resume from it. Reads only its first kilobytes."""
    try:
        return _iteration_in(torch.load(path, map_location='cpu', weights_only=True, mmap=True))
    except Exception:  # a damaged pickle can raise anything, and files from before torch 1.6 cannot be mapped
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
