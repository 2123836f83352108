"""Losses, gradients and weights that are not finite, and the learning rate that mends it."""
from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import tests.kit.trouble  # noqa: F401
from sparse_rcnn_mm.checkpoints import not_finite, read_checkpoint
from tests.kit import DIGITS_CONFIG

Tool = Callable[..., int]


@pytest.fixture
def troubled(small: list[str], tmp_path: Path) -> Callable[..., list[str]]:
    """`troubled(what, at)`: arguments of tools/train.py for 6 iterations with a checkpoint after every one."""

    def arguments(what: str = '', at: int = 0, *options: str) -> list[str]:
        config = tmp_path / f'{what or "plain"}.py'
        hooks = [dict(type='Trouble', what=what, at=at)] if what else []
        config.write_text(f"_base_ = '{DIGITS_CONFIG}'\ncustom_hooks = {hooks}\n")
        return [str(config), *small, 'train_cfg.max_iters=6', 'train_cfg.val_interval=6',
                'default_hooks.checkpoint.interval=1', *options]

    return arguments


def error_of(capsys: pytest.CaptureFixture) -> str:
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith('error: ')]
    assert len(lines) == 1
    return lines[0]


def rates(work_dir: Path) -> dict[int, float]:
    """Iteration -> learning rate, as logged."""
    rows = [json.loads(line) for file in sorted(work_dir.glob('*/vis_data/scalars.json'))
            for line in file.read_text().splitlines()]
    return {row['step']: row['lr'] for row in rows if 'loss' in row}


@pytest.mark.parametrize(('what', 'said'), [
    ('gradient', 'the gradients are not finite (gradient of roi_head.bbox_head.1.fc_reg.weight'),
    ('loss', 'the loss is not finite (loss s0.loss_iou, loss s1.loss_iou'),
    ('weights', 'the predictions are not finite (from stage 1 on, first in image 1 of the batch)'),
])
@pytest.mark.parametrize('at', [pytest.param(3, marks=pytest.mark.slow), 6])
def test_training_ends_before_the_step(tool: Tool, troubled: Callable[..., list[str]], tmp_path: Path,
                                       capsys: pytest.CaptureFixture, what: str, said: str, at: int) -> None:
    """Also at the last iteration: never a good exit status, never a bad checkpoint, and the message tells all."""
    assert tool('train', *troubled(what, at), '--work-dir', 'work') == 1
    message = error_of(capsys)
    assert said in message
    assert f'at iteration {at}' in message
    assert 'at a learning rate of ' in message
    assert message.count('.jpg') == 4
    assert '--cfg-options optim_wrapper.optimizer.lr=NUMBER' in message and '--amp' not in message
    for path in (tmp_path / 'work').glob('*.pth'):
        assert not_finite(read_checkpoint(path)) == []
    left = {path.name for path in (tmp_path / 'work').glob('iter_*')}
    # weights that give no finite predictions are not gone on from: the checkpoint of them is set aside
    newest = f'iter_{at - 1}.diverged' if what == 'weights' else f'iter_{at - 1}.pth'
    assert newest in left and f'iter_{at - 2}.pth' in left and f'iter_{at}.pth' not in left


def test_training_without_amp_is_advised_only_with_amp(tool: Tool, troubled: Callable[..., list[str]],
                                                       capsys: pytest.CaptureFixture) -> None:
    assert tool('train', *troubled('loss', 2), '--amp', '--work-dir', 'work') == 1
    assert 'lr=NUMBER), or without --amp, and check' in error_of(capsys)


def test_an_optimizer_that_is_not_finite_is_not_saved(tool: Tool, troubled: Callable[..., list[str]], tmp_path: Path,
                                                      capsys: pytest.CaptureFixture) -> None:
    frozen = ['optim_wrapper.optimizer.lr=0.', 'param_scheduler=None', 'optim_wrapper.optimizer.weight_decay=0.']
    assert tool('train', *troubled('optimizer', 3, *frozen), '--work-dir', 'work') == 1
    assert 'iter_3.pth was not written, because ' in error_of(capsys)
    assert sorted(path.name for path in (tmp_path / 'work').glob('*.pth')) == ['iter_1.pth', 'iter_2.pth']


@pytest.mark.slow
def test_the_advice_works(tool: Tool, troubled: Callable[..., list[str]], tmp_path: Path,
                          capsys: pytest.CaptureFixture) -> None:
    """Diverged at an absurd learning rate; going on with a lower one ends well, at that rate, and says so."""
    constant = 'param_scheduler=None'
    assert tool('train', *troubled('', 0, constant, 'train_cfg.max_iters=2'), '--work-dir', 'work') == 0
    absurd = [constant, 'optim_wrapper.optimizer.lr=1e18']
    assert tool('train', *troubled('', 0, *absurd), '--work-dir', 'work', '--resume') == 1
    assert 'at iteration 4, at a learning rate of 1e+18' in error_of(capsys)
    assert (tmp_path / 'work/iter_3.diverged').is_file()
    assert tool('train', *troubled('', 0, constant, 'optim_wrapper.optimizer.lr=1e-6'), '--work-dir', 'work',
                '--resume') == 0
    printed = capsys.readouterr()
    assert 'learning rate 1e-06 instead of 0.0005' in printed.out + printed.err
    assert rates(tmp_path / 'work') == pytest.approx({1: 5e-4, 2: 5e-4, 3: 1e-6, 4: 1e-6, 5: 1e-6, 6: 1e-6})
    assert not_finite(read_checkpoint(tmp_path / 'work/iter_6.pth')) == []


@pytest.mark.slow
@pytest.mark.parametrize('schedule', [
    "[dict(type='OneCycleLR', pct_start=0.2, by_epoch=False)]",
    "[dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=3), "
    "dict(type='MultiStepLR', by_epoch=False, milestones=[5], gamma=0.1)]",
    "[dict(type='CosineAnnealingLR', by_epoch=False)]",
])
def test_a_changed_schedule_is_followed(tool: Tool, troubled: Callable[..., list[str]], tmp_path: Path,
                                        capsys: pytest.CaptureFixture, schedule: str) -> None:
    """Going on with more iterations and another rate: from there on, the rates of a training that always had them."""

    def arguments(*options: str) -> list[str]:
        config, *rest = troubled('', 0, *options)
        Path(config).write_text(f"_base_ = '{DIGITS_CONFIG}'\nparam_scheduler = {schedule}\n")
        return [config, *rest]

    changed = ['train_cfg.max_iters=8', 'optim_wrapper.optimizer.lr=2e-4']
    assert tool('train', *arguments('train_cfg.max_iters=3'), '--work-dir', 'work') == 0
    assert tool('train', *arguments(*changed), '--work-dir', 'work', '--resume') == 0
    printed = capsys.readouterr()
    assert 'training ends at iteration 8 (before: 3)' in printed.out + printed.err
    assert tool('train', *arguments(*changed), '--work-dir', 'whole') == 0
    wanted, got = rates(tmp_path / 'whole'), rates(tmp_path / 'work')
    assert {step: got[step] for step in range(4, 9)} == {step: wanted[step] for step in range(4, 9)}
    assert got[2] != wanted[2]


def test_one_cycle_that_is_too_short(tool: Tool, small: list[str], capsys: pytest.CaptureFixture) -> None:
    assert tool('train', DIGITS_CONFIG, *small, 'param_scheduler.0.total_steps=3') == 1
    assert 'total_steps=3, but training has 4 iterations: remove total_steps' in error_of(capsys)


@pytest.mark.parametrize(('value', 'bad'), [
    (torch.tensor([1.0, float('nan')]), True), (torch.tensor([1.0, float('inf')]), True),
    (torch.tensor([float('-inf'), float('nan')]), True), (torch.tensor([1, 2]), False), (torch.zeros(0), False),
    (torch.tensor([3e38, -3e38]), False), (torch.tensor([1.0, float('nan')], dtype=torch.bfloat16), True),
])
def test_what_is_finite(value: torch.Tensor, bad: bool) -> None:
    assert not_finite({'a': [{'b': value}, 'text'], 'c': 1.0}) == (['a.0.b'] if bad else [])
