"""Schedules of trainings that are as short as can be."""
from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.optim import OptimWrapper
from mmengine.registry import PARAM_SCHEDULERS
from mmengine.runner import BaseLoop

from sparse_rcnn_mm.engine.runner import Runner
from sparse_rcnn_mm.errors import UserError
from tests.kit import CONFIGS


class Loop(BaseLoop):
    """A training of `epochs` epochs with `iterations` iterations each."""

    def __init__(self, epochs: int, iterations: int) -> None:
        self.dataloader = range(iterations)  # type: ignore[assignment]
        self.max_epochs, self.max_iters = epochs, epochs * iterations

    def run(self) -> None:
        raise NotImplementedError


def rates(schedule: Any, epochs: int, iterations: int) -> Iterator[float]:
    """The learning rate at every iteration of a training by our Runner, 0.1 without any schedule."""
    runner = object.__new__(Runner)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    runner.__dict__.update(_train_loop=Loop(epochs, iterations), optim_wrapper=OptimWrapper(optimizer),
                           logger=MMLogger.get_current_instance())
    schedulers = runner.build_param_scheduler(schedule)
    for _ in range(epochs):
        for _ in range(iterations):
            yield optimizer.param_groups[0]['lr']
            optimizer.step()
            for scheduler in schedulers:
                if not scheduler.by_epoch:
                    scheduler.step()
        for scheduler in schedulers:
            if scheduler.by_epoch:
                scheduler.step(*([{'loss': 1.0}] if getattr(scheduler, 'need_val_args', False) else []))


SETTINGS: dict[str, list[dict]] = {
    'ConstantLR': [{}], 'LinearLR': [{}, {'end': 500}], 'PolyLR': [{'eta_min': 0.001}],
    'ExponentialLR': [{'gamma': 0.5}],
    'StepLR': [{'step_size': 2}], 'MultiStepLR': [{'milestones': [1, 3]}, {'milestones': [300, 400]}],
    'CosineAnnealingLR': [{}, {'T_max': 1}, {'eta_min_ratio': 0.1}],
    'CosineRestartLR': [{'periods': [1, 4], 'restart_weights': [1, 0.5], 'eta_min': 0}],
    'OneCycleLR': [{'pct_start': share, 'three_phase': three, 'anneal_strategy': curve}
                   for share in (0.0, 0.1, 0.2, 0.25, 1 / 3, 0.3, 0.5, 1.0) for three in (False, True)
                   for curve in ('cos', 'linear')],
    'ReduceOnPlateauLR': [{'monitor': 'loss'}],
}
UNITS = [{'by_epoch': False}, {'by_epoch': True}, {'by_epoch': True, 'convert_to_iter_based': True}]


def test_the_table_has_every_schedule() -> None:
    assert {name for name in PARAM_SCHEDULERS.module_dict if name.endswith('LR')} == set(SETTINGS)


@pytest.mark.parametrize('kind', SETTINGS)
def test_every_schedule_of_one_to_five_steps(kind: str) -> None:
    units = UNITS[1:2] if kind == 'ReduceOnPlateauLR' else UNITS
    for settings, unit, epochs, iterations in itertools.product(SETTINGS[kind], units, range(1, 6), range(1, 6)):
        if epochs == 1 or iterations == 1 or epochs == iterations:
            found = list(rates([dict(type=kind, **settings, **unit)], epochs, iterations))
            assert len(found) == epochs * iterations
            assert all(math.isfinite(rate) and 0 <= rate <= 0.1 + 1e-9 for rate in found), (settings, unit, found)


def test_a_one_cycle_schedule_rises_and_falls() -> None:
    """A rise of 0.2 of 5 iterations is over with the first, at the top."""
    found = list(rates([dict(type='OneCycleLR', pct_start=0.2, by_epoch=False)], 1, 5))
    fall = [0.1 * (1 + math.cos(math.pi * step / 4)) / 2 for step in range(4)]
    assert found == pytest.approx([*fall, 0.1 / 25 / 1e4], abs=1e-6)
    assert list(rates([dict(type='OneCycleLR', pct_start=0.2, by_epoch=False)], 1, 10)) == pytest.approx(
        [0.1 / 25, *(0.1 * (1 + math.cos(math.pi * step / 8)) / 2 for step in range(9))], abs=1e-6)


@pytest.mark.parametrize('path', sorted(CONFIGS.glob('*.py')), ids=lambda path: path.stem)
def test_every_config_in_one_to_five_iterations(path: Any) -> None:
    cfg = Config.fromfile(path)
    for iterations in range(1, 6):
        found = list(rates(cfg.param_scheduler, 1, iterations))
        assert all(math.isfinite(rate) and rate >= 0 for rate in found)


@pytest.mark.parametrize(('settings', 'sentence'), [
    (dict(type='OneCycleLR', pct_start=1), 'Expected float between 0 and 1 pct_start, but got 1'),
    (dict(type='OneCycleLR', anneal_strategy='x'), 'anneal_strategy must by one of'),
    (dict(type='LinearLR', start_factor=3), 'Starting multiplicative factor should between 0 and 1'),
    (dict(type='LinearLR', begin=5, end=5), 'end should be larger than begin'),
    (dict(type='OneCycleLR', total_steps=2), r'total_steps=2, but training has 3 epochs: remove total_steps'),
    (dict(type='OneCycleLR', total_steps=2, by_epoch=False), r'total_steps=2, but training has 6 iterations'),
])
def test_settings_that_make_no_sense(settings: dict, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        list(rates([settings], 3, 2))
