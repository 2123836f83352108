"""A hook that makes trouble at one moment of a training."""
from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

import torch
from mmengine.dist import get_rank
from mmengine.hooks import Hook

from sparse_rcnn_mm.registry import HOOKS


def _spoil_gradient(runner: Any) -> None:
    runner.model.roi_head.bbox_head[1].fc_reg.weight.register_hook(lambda gradient: gradient * torch.nan)


def _spoil_loss(runner: Any) -> None:
    runner.model.criterion.loss_iou.loss_weight = torch.nan


def _spoil_weights(runner: Any) -> None:
    with torch.no_grad():
        runner.model.roi_head.bbox_head[0].fc_reg.weight.mul_(torch.nan)


def _spoil_optimizer(runner: Any) -> None:
    next(iter(runner.optim_wrapper.optimizer.state.values()))['exp_avg'].fill_(torch.inf)


def _raise(runner: Any) -> None:
    raise RuntimeError('out of memory')


ACTIONS: dict[str, Callable[[Any], None]] = {
    'gradient': _spoil_gradient, 'loss': _spoil_loss, 'weights': _spoil_weights, 'optimizer': _spoil_optimizer,
    'error': _raise, **{name: lambda runner, name=name: os.kill(os.getpid(), getattr(signal, name))
                        for name in ('SIGINT', 'SIGTERM', 'SIGHUP', 'SIGUSR1', 'SIGKILL')}}


@HOOKS.register_module()
class Trouble(Hook):
    """Do `ACTIONS[what]` before iteration `at` (from 1), or before the validation after it.

    Args:
        rank: the process that has the trouble.
    """

    priority = 'HIGHEST'

    def __init__(self, what: str, at: int, in_validation: bool = False, rank: int = 0) -> None:
        self.what, self.at, self.in_validation = what, at, in_validation
        self.here = get_rank() == rank

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        if self.here and not self.in_validation and runner.iter + 1 == self.at:
            ACTIONS[self.what](runner)

    def before_val_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        if self.here and self.in_validation and runner.iter == self.at:
            ACTIONS[self.what](runner)
