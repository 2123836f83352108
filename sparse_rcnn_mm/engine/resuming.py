"""Saves and restores the training state, so that a resumed training continues as if it had not been interrupted.

Besides weights and optimizer, a checkpoint contains `training_state`: random states, partly accumulated gradients, the
iteration of the last validation, and the counters of early stopping. Settings of the optimizer and the schedule come
from the config. The learning rate is computed by running the schedule up to the current iteration: if the config is
unchanged, this gives the same number as training did; if it was changed, the new schedule applies.
"""
from __future__ import annotations

import os
import random
import time
import warnings
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import mmengine
import numpy as np
import torch
from mmengine.dist import all_gather_object, get_rank
from mmengine.hooks import EarlyStoppingHook
from mmengine.optim import OptimWrapper, _ParamScheduler
from mmengine.runner import BaseLoop, EpochBasedTrainLoop
from mmengine.runner.checkpoint import weights_to_cpu
from mmengine.utils import apply_to
from torch import nn

from sparse_rcnn_mm.checkpoints import Metadata, check_resumable, newest_checkpoint, read_checkpoint, unwrapped
from sparse_rcnn_mm.errors import UserError, refusing

from .resumed_state import (
    check_meta,
    check_optimizer,
    checked_counters,
    checked_message_hub,
    checked_numpy_state,
    load_schedule,
)

_STOPPING = ('wait_count', 'best_score')
# Settings in an optimizer's parameter groups that schedules change or read.
_SCHEDULED = {'lr', 'initial_lr', 'max_lr', 'min_lr'}


def training_state(runner: Any) -> dict[str, Any]:
    """Collect the state of a Runner between two iterations, as data that may be stored in a checkpoint."""
    state: dict[str, Any] = {
        'random': _random_states(), 'validated': getattr(runner.train_loop, 'validated', 0),
        'epoch_length': len(runner.train_dataloader),
        'early_stopping': [{name: getattr(hook, name) for name in _STOPPING} for hook in _stopping_hooks(runner)]}
    if getattr(runner.optim_wrapper, 'accumulating', False):
        state['gradients'] = {name: parameter.grad.cpu() for name, parameter in _parameters(runner)
                              if parameter.grad is not None}
    return state


def restore_training_state(runner: Any, state: dict[str, Any], iteration: int) -> None:
    """Restore `training_state`. If the checkpoint has none, random numbers are seeded from seed and iteration."""
    runner.train_loop.validated = int(state.get('validated', iteration))
    for hook, values in zip(_stopping_hooks(runner), state.get('early_stopping', []), strict=False):
        vars(hook).update(checked_counters(values, _STOPPING))
    gradients = state.get('gradients', {})
    for name, parameter in _parameters(runner):
        if name in gradients:
            parameter.grad = gradients[name].to(parameter)
    if 'random' in state and get_rank() == 0:
        _set_random_states(state['random'])
    else:  # a checkpoint has only the random states of the first process
        _seed(runner.seed, get_rank(), iteration)


def check_classes(runner: Any, contents: dict[str, Any], path: str | os.PathLike) -> None:
    """Raise a `UserError` if the data has other classes, or another order of them, than the training that resumes."""
    before = Metadata.of(contents, path).classes
    now = (getattr(runner.train_dataloader.dataset, 'metainfo', None) or {}).get('classes')
    if before and now and list(before) != list(now):
        raise UserError(f'{path} was trained with the classes {", ".join(before)}, but the data has {", ".join(now)}: '
                        'resume with the same data, or start a new training from its weights with --load-from and '
                        'another --work-dir')


def _stopping_hooks(runner: Any) -> list[EarlyStoppingHook]:
    return [hook for hook in runner.hooks if isinstance(hook, EarlyStoppingHook)]


def _parameters(runner: Any) -> list[tuple[str, nn.Parameter]]:
    return list(unwrapped(runner.model).named_parameters())


def _random_states() -> dict[str, Any]:
    kind, keys, *rest = np.random.get_state()
    states = {'python': random.getstate(), 'numpy': [kind, torch.from_numpy(np.array(keys, np.int64)), *rest],
              'torch': torch.get_rng_state()}
    if torch.cuda.is_available():
        states['cuda'] = torch.cuda.get_rng_state()
    return states


def _set_random_states(states: dict[str, Any]) -> None:
    random.setstate(states['python'])
    np.random.set_state(checked_numpy_state(states['numpy']))
    torch.set_rng_state(states['torch'].cpu())
    if 'cuda' in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(states['cuda'].cpu())


def _seed(*entropy: int) -> None:
    words = np.random.SeedSequence(entropy).generate_state(3)
    random.seed(int(words[0]))
    np.random.seed(words[1])
    torch.manual_seed(int(words[2]))


def contents_to_save(runner: Any, meta: dict[str, Any], optimizer: bool, schedule: bool) -> dict[str, Any]:
    """The contents of a checkpoint, on the CPU: those of mmengine's checkpoints, and the training state."""
    metainfo = getattr(runner.train_dataloader.dataset, 'metainfo', None)
    contents = {
        'meta': {**meta, 'cfg': runner.cfg.pretty_text, 'seed': runner.seed, 'time': time.strftime('%Y%m%d_%H%M%S'),
                 'experiment_name': runner.experiment_name, 'mmengine_version': mmengine.__version__,
                 **({} if metainfo is None else {'dataset_meta': metainfo})},
        'state_dict': weights_to_cpu(unwrapped(runner.model).state_dict()),
        'message_hub': _on_cpu(runner.message_hub.state_dict())}
    if optimizer:
        contents['optimizer'] = _on_cpu(runner.optim_wrapper.state_dict())
        contents['training_state'] = training_state(runner)
    if schedule and runner.param_schedulers is not None:
        contents['param_schedulers'] = [scheduler.state_dict() for scheduler in runner.param_schedulers]
    return contents


def _on_cpu(contents: Any) -> Any:
    return apply_to(contents, lambda value: hasattr(value, 'cpu'), lambda value: value.cpu())


def find_start(runner: Any) -> tuple[Path, dict[str, Any]] | None:
    """Find the checkpoint to resume and read it: the one that was given, or the newest in the work dir.

    Raises:
        UserError: it is missing, damaged or incomplete, or other processes find a different one.
    """
    start: tuple[Path, dict[str, Any]] | None
    if runner._load_from is not None:
        start = Path(runner._load_from), read_checkpoint(runner._load_from)
        check_resumable(start[1], start[0])
    else:
        start = newest_checkpoint(runner.work_dir, runner.logger.warning)
    if start is not None:
        with whole(start[0]):
            check_meta(start[1]['meta'])
    name = None if start is None else str(start[0])
    if any(other != name for other in all_gather_object(name)):
        raise UserError(f'the processes find different checkpoints in {runner.work_dir}: all machines must share '
                        'this folder')
    if start is None:
        runner.logger.info(f'no checkpoint in {runner.work_dir}: training starts at iteration 0')
    return start


def whole(path: str | os.PathLike) -> AbstractContextManager[None]:
    """A context for using what the checkpoint `path` says about its training: any error becomes a UserError."""
    return refusing(lambda error: f'training cannot resume from {path}: its training state does not fit or is '
                    f'malformed ({error}); start from its weights with --load-from and another --work-dir')


def resume_training(runner: Any, contents: dict[str, Any]) -> None:
    """Restore everything except the weights: counters, logs, optimizer, schedule and training state."""
    loop, meta, state = runner.train_loop, contents['meta'], contents.get('training_state', {})
    loop._epoch, loop._iter = meta['epoch'], meta['iter']
    if isinstance(loop, EpochBasedTrainLoop) and state.get('epoch_length') != len(loop.dataloader):
        loop._iter = loop._epoch * len(loop.dataloader)
        if loop._iter != meta['iter']:
            runner.logger.warning(f'an epoch has {len(loop.dataloader)} iterations now: epoch {loop._epoch + 1} starts '
                                  f'again from its beginning, as iteration {loop._iter + 1}')
    runner.message_hub.load_state_dict(checked_message_hub(contents['message_hub'], meta['iter']))
    ended = runner.message_hub.runtime_info.get('max_iters')
    if ended not in (None, runner.max_iters):
        runner.logger.info(f'training ends at iteration {runner.max_iters} (before: {ended}), with the schedule in '
                           'the config')
    changes = load_optimizer(runner.optim_wrapper, contents['optimizer'])
    rate_before = changes.pop('lr')
    if runner.param_schedulers:
        enter_schedules(runner.param_schedulers, contents, loop)
    rate = runner.optim_wrapper.param_groups[0]['lr']
    if rate != rate_before:
        changes['learning rate'] = f'{rate:.4g} instead of {rate_before:.4g}'
    if changes:
        runner.logger.warning('the config changes the optimizer from here on: '
                              + ', '.join(f'{name} {change}' for name, change in changes.items()))
    restore_training_state(runner, state, loop._iter)
    runner.logger.info(f'training resumes after iteration {loop._iter}')


def load_optimizer(wrapper: OptimWrapper, state: dict[str, Any]) -> dict[str, Any]:
    """Load the state of an optimizer, but keep the settings from the config.

    Returns:
        The learning rate in `state` as 'lr', and other differing settings as name -> "0.1 instead of 0.2".
    """
    wanted = [{key: value for key, value in group.items() if key != 'params'} for group in wrapper.param_groups]
    wrapper.load_state_dict(state)
    check_optimizer(wrapper.optimizer)
    changes: dict[str, Any] = {'lr': wrapper.param_groups[0]['lr']}
    for group, settings in zip(wrapper.param_groups, wanted, strict=True):
        for key in settings.keys() & group.keys() - _SCHEDULED:
            if group[key] != settings[key]:
                changes[key] = f'{settings[key]} instead of {group[key]}'
        group.update(settings)
    return changes


def enter_schedules(schedulers: list[_ParamScheduler], contents: dict[str, Any], loop: BaseLoop) -> None:
    """Advance the schedules of the config to the current iteration.

    If they equal those in the checkpoint, their state is loaded. Otherwise they are stepped from the start, except
    those that follow a metric.
    """
    saved, groups = contents.get('param_schedulers') or [], contents['optimizer']['param_groups']
    if [_settings(s.state_dict()) for s in schedulers] == [_settings(state) for state in saved]:
        for scheduler, state in zip(schedulers, saved, strict=True):
            load_schedule(scheduler, state)
            for group, before in zip(scheduler.optimizer.param_groups, groups, strict=False):
                group[scheduler.param_name] = before[scheduler.param_name]
        return
    for scheduler, state in zip(schedulers, saved, strict=False):
        if getattr(scheduler, 'need_val_args', False):
            load_schedule(scheduler, state)
    epochs, length = (loop.epoch, len(loop.dataloader)) if isinstance(loop, EpochBasedTrainLoop) else (0, loop.iter + 1)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # "scheduler.step() before optimizer.step()"
        for iteration in range(1, loop.iter + 1):
            _step(schedulers, by_epoch=False)
            if iteration % length == 0 and iteration // length <= epochs:
                _step(schedulers, by_epoch=True)


def _settings(state: dict[str, Any]) -> dict[str, Any]:
    """The part of a schedule's state that does not change with the iteration."""
    return {key: value for key, value in state.items() if key not in ('last_step', '_global_step', '_last_value')}


def _step(schedulers: list[_ParamScheduler], by_epoch: bool) -> None:
    for scheduler in schedulers:
        if scheduler.by_epoch == by_epoch and not getattr(scheduler, 'need_val_args', False):
            scheduler.step()


def complete_one_cycle(settings: dict[str, Any], length: int, epoch_length: int) -> None:
    """Check and complete the settings of a one-cycle schedule.

    Args:
        settings: changed in place.
        length: iterations of the training, or epochs if the schedule counts those.
        epoch_length: iterations of an epoch.

    Raises:
        UserError: it is shorter than the training, so it would raise at its end.
    """
    steps, needed = settings.get('total_steps'), settings.get('end', length) - settings.get('begin', 0)
    if steps is not None and steps < needed:
        unit = 'epochs' if settings.get('by_epoch', True) else 'iterations'
        raise UserError(f'the one-cycle schedule has total_steps={steps}, but training has {needed} {unit}: '
                        'remove total_steps to use that number')
    share = settings.get('pct_start', 0.3)
    in_built = (steps or needed) * (epoch_length if settings.get('convert_to_iter_based') else 1)
    if isinstance(share, float) and share * in_built == 1:
        # A rise of a single step has length 0, and mmengine (like PyTorch) divides by it: start at the top.
        settings['pct_start'] = share * (1 - 1e-9)
