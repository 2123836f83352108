"""Detects that a launcher restarted a training: torchrun --max-restarts, or Slurm with --requeue."""
from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.dist import all_gather_object, is_main_process

from sparse_rcnn_mm.checkpoints import write_text
from sparse_rcnn_mm.errors import UserError

_RESTARTS = ('TORCHELASTIC_RESTART_COUNT', 'SLURM_RESTART_COUNT')  # the number of restarts
_NOTE = 'launched_by'


def earlier_checkpoints(work_dir: str | os.PathLike, hooks: Mapping[str, Any] | None) -> list[Path]:
    """The checkpoints of an earlier training with this work dir.

    Args:
        work_dir: the folder.
        hooks: `default_hooks` of the config, whose checkpoint hook may write to another folder.
    """
    elsewhere = ((hooks or {}).get('checkpoint') or {}).get('out_dir')
    folders = [Path(work_dir), *([Path(elsewhere, Path(work_dir).name)] if elsewhere else [])]
    return [path for folder in folders for path in sorted(folder.glob('*.pth'))]


def refuse_earlier_training(work_dir: str | os.PathLike, hooks: Mapping[str, Any] | None) -> None:
    """Raise a `UserError` if there is an earlier training."""
    if saved := earlier_checkpoints(work_dir, hooks):
        raise UserError(f'{saved[-1]} is from an earlier training: continue it with --resume, or choose another '
                        '--work-dir, or delete it')


def note_launch(work_dir: str | os.PathLike) -> None:
    """Record which launch trains in `work_dir`, if there is a launcher."""
    if _launch() and is_main_process():
        write_text(_launch(), Path(work_dir, _NOTE))


def restarts() -> bool:
    """Whether the launcher of this process restarted it, wherever it trained before."""
    return any(int(os.environ.get(name) or 0) for name in _RESTARTS)


def was_restarted(work_dir: str | os.PathLike) -> bool:
    """Whether the launch that trained in `work_dir` was restarted (not one that was refused there)."""
    note = Path(work_dir, _NOTE)
    here = restarts() and note.is_file() and note.read_text() == _launch()
    return bool(all_gather_object(here)[0])  # the first process decides; others may have other launchers


def _launch() -> str:
    """A name for the launch that this process belongs to; empty without a launcher."""
    if 'SLURM_JOB_ID' in os.environ:
        return f'Slurm job {os.environ["SLURM_JOB_ID"]}'
    return f'torchrun {os.getppid()}' if 'TORCHELASTIC_RESTART_COUNT' in os.environ else ''
