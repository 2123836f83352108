"""Detects that a launcher restarted a training: torchrun --max-restarts, or Slurm with --requeue."""
from __future__ import annotations

import os
from pathlib import Path

from mmengine.dist import all_gather_object, is_main_process

from sparse_rcnn_mm.checkpoints import write_text

_RESTARTS = ('TORCHELASTIC_RESTART_COUNT', 'SLURM_RESTART_COUNT')  # the number of restarts
_NOTE = 'launched_by'


def note_launch(work_dir: str | os.PathLike) -> None:
    """Record which launch trains in `work_dir`, if there is a launcher."""
    if _launch() and is_main_process():
        write_text(_launch(), Path(work_dir, _NOTE))


def was_restarted(work_dir: str | os.PathLike) -> bool:
    """Whether the launch that trained in `work_dir` was restarted (not one that was refused there)."""
    note = Path(work_dir, _NOTE)
    again = any(int(os.environ.get(name) or 0) for name in _RESTARTS)
    here = again and note.is_file() and note.read_text() == _launch()
    return bool(all_gather_object(here)[0])  # the first process decides; others may have other launchers


def _launch() -> str:
    """A name for the launch that this process belongs to; empty without a launcher."""
    if 'SLURM_JOB_ID' in os.environ:
        return f'Slurm job {os.environ["SLURM_JOB_ID"]}'
    return f'torchrun {os.getppid()}' if 'TORCHELASTIC_RESTART_COUNT' in os.environ else ''
