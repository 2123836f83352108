"""Trainings that a launcher starts again: torchrun --max-restarts, and Slurm with --requeue."""
from __future__ import annotations

import os
from pathlib import Path

from mmengine.dist import all_gather_object, is_main_process

from sparse_rcnn_mm.checkpoints import write_text

_RESTARTS = ('TORCHELASTIC_RESTART_COUNT', 'SLURM_RESTART_COUNT')  # how often that happened
_NOTE = 'launched_by'


def note_launch(work_dir: str | os.PathLike) -> None:
    """Write down which launch trains in `work_dir`, where a launcher does."""
    if _launch() and is_main_process():
        write_text(_launch(), Path(work_dir, _NOTE))


def was_restarted(work_dir: str | os.PathLike) -> bool:
    """Whether this is a later start of the launch that trained in `work_dir`, and not of one that was refused there."""
    note = Path(work_dir, _NOTE)
    again = any(int(os.environ.get(name) or 0) for name in _RESTARTS)
    here = again and note.is_file() and note.read_text() == _launch()
    return bool(all_gather_object(here)[0])  # the first process wrote it; others may be children of other launchers


def _launch() -> str:
    """The launch that this process belongs to, empty without a launcher."""
    if 'SLURM_JOB_ID' in os.environ:
        return f'Slurm job {os.environ["SLURM_JOB_ID"]}'
    return f'torchrun {os.getppid()}' if 'TORCHELASTIC_RESTART_COUNT' in os.environ else ''
