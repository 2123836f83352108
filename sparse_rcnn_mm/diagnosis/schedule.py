"""Compares the learning rate with batch size, warmup and length of the training, as read from the config."""
from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmengine.config import Config

from sparse_rcnn_mm.checkpoints import Metadata, published_config, read_checkpoint
from sparse_rcnn_mm.config_files import config_from_file
from sparse_rcnn_mm.errors import UserError

from .measurements import LearningRate

_PAPER = 2.5e-5, 16  # learning rate of AdamW, and images per step


def measure_learning_rate(cfg: Config, images: int, processes: int = 1, load_from: str = '') -> LearningRate:
    """Measure a config after `accumulate`, for a training set of `images` images, from the weights `load_from`."""
    optimizer = cfg.optim_wrapper.optimizer
    batch = cfg.train_dataloader.batch_size * processes
    step = batch * cfg.optim_wrapper.get('accumulative_counts', 1)
    scale = cfg.get('auto_scale_lr') or {}
    base = scale.get('base_batch_size')
    rate = float(optimizer.lr)
    if scale.get('enable') and base:
        rate *= step / base
    if cfg.get('accumulate_to') or scale.get('enable'):
        base = step  # the rate is already scaled
    epoch = max(images // batch, 1)
    settings = cfg.train_cfg
    iterations = int(settings.get('max_iters') or settings.get('max_epochs', 1) * epoch)
    return LearningRate(rate, step, base, _warmup(cfg.get('param_scheduler'), iterations, epoch), iterations,
                        iterations / epoch, str(optimizer.type), _usual(cfg, str(optimizer.type), step, load_from))


def _usual(cfg: Config, optimizer: str, images: int, load_from: str) -> float | None:
    """Return the rate that the weights were trained with by the same optimizer, scaled to `images` images per step."""
    if not load_from:
        rate, its_images = _PAPER
        named = cfg.model.backbone.get('init_cfg') and optimizer == 'AdamW'
        return rate * images / its_images if named else None
    try:
        name = published_config(load_from)
        values: Mapping[str, Any] = config_from_file(name) if name else Metadata.of(
            read_checkpoint(load_from), load_from).config().values
        settings = values['optim_wrapper']['optimizer']
        batch = values['train_dataloader']['batch_size'] * values['optim_wrapper'].get('accumulative_counts', 1)
        batch = (values.get('auto_scale_lr') or {}).get('base_batch_size') or batch
        return float(settings['lr']) * images / batch if settings['type'] == optimizer else None
    except (UserError, KeyError, TypeError, AttributeError, ValueError):
        return None  # the checkpoint does not say


def _warmup(schedulers: Any, iterations: int, epoch: int) -> int:
    """Return the number of iterations until the full learning rate is reached."""
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
