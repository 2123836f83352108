"""mmengine's checkpoint hooks, changed so that they cannot lose a checkpoint."""
from __future__ import annotations

from pathlib import Path
from typing import Any

from mmengine.dist import is_main_process
from mmengine.hooks import CheckpointHook as MMEngineCheckpointHook
from mmengine.hooks import EMAHook as MMEngineEMAHook

from sparse_rcnn_mm.checkpoints import compare, remove_unfinished
from sparse_rcnn_mm.registry import HOOKS


class _RemovesLater:
    """A file backend that collects the files to remove in the list `noted`, and removes them later."""

    def __init__(self, backend: Any, noted: list[str]) -> None:
        self._backend = backend
        self._noted = noted

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)

    def remove(self, path: str) -> None:
        """Note a file to remove."""
        self._noted.append(path)

    def remove_noted(self, besides: set[str]) -> None:
        """Remove the noted files, except `besides`."""
        for path in self._noted:
            if path not in besides and self._backend.isfile(path):
                self._backend.remove(path)
        self._noted.clear()


@HOOKS.register_module()
class CheckpointHook(MMEngineCheckpointHook):
    """Like mmengine's, but removes an old checkpoint only after the new one was written.

    The checkpoint of an interrupted training (`stopped_ckpt`) is removed with the next regular checkpoint. A new
    checkpoint names the old ones to remove (`outdated_ckpts`), for a process that dies in between: a training that
    resumes from it removes them.
    """

    best_ckpt_path: str | None
    file_backend: Any

    def before_train(self, runner: Any) -> None:
        """Take over the list of checkpoints from the training that is resumed."""
        super().before_train(runner)
        if is_main_process():
            remove_unfinished(self.out_dir)
        self.best_ckpt_path = self._here(getattr(self, 'best_ckpt_path', None))
        self.best_ckpt_path_dict = {key: self._here(path) for key, path in
                                    getattr(self, 'best_ckpt_path_dict', {}).items()}
        outdated = map(self._here, runner.message_hub.runtime_info.get('outdated_ckpts', []))
        noted = [path for path in outdated if path]
        runner.message_hub.update_info('outdated_ckpts', noted)
        self.file_backend = _RemovesLater(self.file_backend, noted)
        self._remove_old()

    def _here(self, path: str | None) -> str | None:
        """The path in this work dir, which may be a copy or renamed: files of the original are never removed."""
        here = Path(self.out_dir, Path(path or '').name)
        return str(here) if here.is_file() else None

    def _save_checkpoint_with_step(self, runner: Any, step: int, meta: dict[str, Any]) -> None:
        stopped = runner.message_hub.runtime_info.pop('stopped_ckpt', None)
        if stopped and stopped != self.filename_tmpl.format(step):
            self.file_backend.remove(str(Path(runner.work_dir, stopped)))
        super()._save_checkpoint_with_step(runner, step, meta)
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
    """Like mmengine's, but restores the model's own weights if validation stops early.

    mmengine's hook puts the averaged weights into the model during validation.
    """

    _validating = False

    def after_load_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        """When resuming, restore both the model's own and the averaged weights, unless they do not fit.

        That is said when the model is loaded. After weights of another training were loaded, see `start_again`.
        """
        averaged = checkpoint.get('ema_state_dict') or {}
        if runner._resume and not compare(averaged, self.ema_model.state_dict()).reshaped:
            super().after_load_checkpoint(runner, checkpoint)

    def start_again(self) -> None:
        """Start the average from the weights that were loaded into the model."""
        self.ema_model.module.load_state_dict(self.src_model.state_dict())

    def before_val_epoch(self, runner: Any) -> None:
        """Put the averaged weights into the model."""
        super().before_val_epoch(runner)
        self._validating = True

    def after_val_epoch(self, runner: Any, metrics: dict[str, float] | None = None) -> None:
        """Put the model's own weights back."""
        super().after_val_epoch(runner, metrics)
        self._validating = False

    def leave_validation(self) -> None:
        """Put the model's own weights back if validation stopped early."""
        if self._validating:
            self._swap_ema_parameters()
            self._validating = False
