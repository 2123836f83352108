"""Gradient accumulation, to train with the official batch size on fewer GPUs."""
from __future__ import annotations

import os

from mmengine.config import Config

from sparse_rcnn_mm.terminal import say


def accumulate(cfg: Config) -> None:
    """Accumulate gradients to about `cfg.accumulate_to` images per step, and scale the learning rate accordingly.

    The config's learning rate is for `accumulate_to` images per step; for another number it is scaled linearly. A
    config without `accumulate_to` is not changed.
    """
    target = cfg.get('accumulate_to')
    if not target:
        return
    processes = int(os.environ.get('WORLD_SIZE', os.environ.get('SLURM_NTASKS', 1))) if cfg.launcher != 'none' else 1
    batch = cfg.train_dataloader.batch_size * processes
    count = max(round(target / batch), 1)
    optimizer = cfg.optim_wrapper.optimizer
    optimizer.lr *= batch * count / target
    cfg.optim_wrapper.accumulative_counts = count
    cfg.accumulate_to = batch * count  # what the learning rate is for now, in the config that is written out
    say(f'{batch * count} images per step ({processes} x {cfg.train_dataloader.batch_size}, gradients of {count} '
        f'batches accumulated): learning rate {optimizer.lr:.3g}')
