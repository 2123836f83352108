"""The learning rate against the batch, the warm-up and the length of training, read from the config."""
from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmengine.config import Config

from .measurements import LearningRate


def measure_learning_rate(cfg: Config, images: int, processes: int = 1) -> LearningRate:
    """Of a config after `accumulate`, for a training set of so many images."""
    optimizer = cfg.optim_wrapper.optimizer
    batch = cfg.train_dataloader.batch_size * processes
    step = batch * cfg.optim_wrapper.get('accumulative_counts', 1)
    scale = cfg.get('auto_scale_lr') or {}
    base = scale.get('base_batch_size')
    rate = float(optimizer.lr)
    if scale.get('enable') and base:
        rate *= step / base
    if cfg.get('accumulate_to') or scale.get('enable'):
        base = step  # it was scaled
    epoch = max(images // batch, 1)
    settings = cfg.train_cfg
    iterations = int(settings.get('max_iters') or settings.get('max_epochs', 1) * epoch)
    return LearningRate(rate, step, base, _warmup(cfg.get('param_scheduler'), iterations, epoch), iterations,
                        iterations / epoch, str(optimizer.type))


def _warmup(schedulers: Any, iterations: int, epoch: int) -> int:
    """Iterations until the learning rate is reached."""
    longest = 0
    for one in schedulers if isinstance(schedulers, (list, tuple)) else [schedulers]:
        if isinstance(one, Mapping):
            longest = max(longest, round(_of_one(one, iterations) * (epoch if one.get('by_epoch', True) else 1)))
    return longest


def _of_one(scheduler: Mapping[str, Any], iterations: int) -> float:
    kind = str(scheduler.get('type')).removesuffix('ParamScheduler')
    if kind.startswith('OneCycle'):
        return float(scheduler.get('pct_start', 0.3)) * int(scheduler.get('total_steps') or iterations)
    if kind in ('LinearLR', 'ConstantLR') and scheduler.get('start_factor', scheduler.get('factor', 1 / 3)) < 1:
        return float(scheduler.get('end', 0)) - float(scheduler.get('begin', 0))
    return 0.
