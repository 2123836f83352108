"""Writes a compact checkpoint at the end of training."""
from __future__ import annotations

from pathlib import Path

from mmengine.dist import is_main_process
from mmengine.hooks import CheckpointHook, Hook
from mmengine.runner import Runner

from sparse_rcnn_mm.checkpoints import read_checkpoint, write_checkpoint
from sparse_rcnn_mm.checkpoints.lora import merged
from sparse_rcnn_mm.registry import HOOKS


@HOOKS.register_module()
class InferenceCheckpointHook(Hook):
    """Writes WORK_DIR/`name` after training: weights, class names and config of the best (or last) checkpoint.

    Optimizer, schedule and logs are left out, and with EMA also the weights that are not averaged. This is a third of
    the size.
    """

    priority = 'LOWEST'  # after CheckpointHook

    def __init__(self, name: str = 'inference.pth') -> None:
        self.name = name

    def after_train(self, runner: Runner) -> None:
        """Write the checkpoint."""
        source = saved_checkpoint(runner)
        if source is None or not is_main_process():
            return
        checkpoint = read_checkpoint(source)
        target = Path(runner.work_dir, self.name)
        write_checkpoint({'meta': checkpoint['meta'], 'state_dict': merged(checkpoint['state_dict'])}, target)
        size = target.stat().st_size / 1e6
        runner.logger.info(f'{target}: weights, class names and config of {source.name} for inference, {size:.0f} MB')


def saved_checkpoint(runner: Runner) -> Path | None:
    """The best checkpoint of a training, else the last; None if nothing was saved."""
    best = [hook.best_ckpt_path for hook in runner.hooks
            if isinstance(hook, CheckpointHook) and getattr(hook, 'best_ckpt_path', None)]
    last = Path(runner.work_dir, 'last_checkpoint')
    saved = best[0] if best else last.read_text().strip() if last.is_file() else ''
    return Path(saved) if saved and Path(saved).is_file() else None
