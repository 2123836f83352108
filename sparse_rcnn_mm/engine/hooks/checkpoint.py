"""mmengine's hooks that decide over checkpoints, where theirs could lose one."""
from __future__ import annotations

from pathlib import Path
from typing import Any

from mmengine.dist import is_main_process
from mmengine.hooks import CheckpointHook as MMEngineCheckpointHook
from mmengine.hooks import EMAHook as MMEngineEMAHook

from sparse_rcnn_mm.checkpoints import remove_unfinished
from sparse_rcnn_mm.registry import HOOKS


class _RemovesLater:
    """A file backend that notes what is to be removed, and removes it when told to."""

    def __init__(self, backend: Any) -> None:
        self._backend = backend
        self._noted: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)

    def remove(self, path: str) -> None:
        self._noted.append(path)

    def remove_noted(self, besides: set[str]) -> None:
        for path in self._noted:
            if path not in besides and self._backend.isfile(path):
                self._backend.remove(path)
        self._noted.clear()


@HOOKS.register_module()
class CheckpointHook(MMEngineCheckpointHook):
    """mmengine's hook, but an old checkpoint is removed only after the new one was written.

    The checkpoint of an interruption (`stopped_ckpt`) is removed by the next regular one.
    """

    best_ckpt_path: str | None
    file_backend: Any

    def before_train(self, runner: Any) -> None:
        super().before_train(runner)
        self.file_backend = _RemovesLater(self.file_backend)
        if is_main_process():
            remove_unfinished(self.out_dir)
        best = getattr(self, 'best_ckpt_path', None)
        if best:
            # by its name in this folder, which may have been copied or renamed: that of the other is not ours to remove
            here = Path(self.out_dir, Path(best).name)
            self.best_ckpt_path = str(here) if here.is_file() else None

    def _save_checkpoint_with_step(self, runner: Any, step: int, meta: dict[str, Any]) -> None:
        stopped = runner.message_hub.runtime_info.pop('stopped_ckpt', None)
        super()._save_checkpoint_with_step(runner, step, meta)
        if stopped and is_main_process():
            self.file_backend.remove(str(Path(runner.work_dir, stopped)))
        self._remove_old()

    def _save_best_checkpoint(self, runner: Any, metrics: dict[str, float]) -> None:
        super()._save_best_checkpoint(runner, metrics)
        self._remove_old()

    def _remove_old(self) -> None:
        best = [getattr(self, 'best_ckpt_path', None), *getattr(self, 'best_ckpt_path_dict', {}).values()]
        if is_main_process():
            self.file_backend.remove_noted(besides={str(path) for path in (self.last_ckpt, *best)})


@HOOKS.register_module()
class EMAHook(MMEngineEMAHook):
    """mmengine's hook, which puts the averaged weights into the model while it validates; this one can take them out
    when validation is left early."""

    _validating = False

    def before_val_epoch(self, runner: Any) -> None:
        super().before_val_epoch(runner)
        self._validating = True

    def after_val_epoch(self, runner: Any, metrics: dict[str, float] | None = None) -> None:
        super().after_val_epoch(runner, metrics)
        self._validating = False

    def leave_validation(self) -> None:
        """Give the model its own weights back, where validation did not come to its end."""
        if self._validating:
            self._swap_ema_parameters()
            self._validating = False
