"""Signals and errors in the middle of a training, and going on after them."""
from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import tests.kit.trouble  # noqa: F401
from sparse_rcnn_mm.checkpoints import read_checkpoint
from sparse_rcnn_mm.engine.hooks.checkpoint import CheckpointHook
from tests.kit import DIGITS_CONFIG, ROOT
from tests.kit.checkpoints import differences

Tool = Callable[..., int]

# Everything that has a state of its own.
EVERYTHING = """
_base_ = '{digits_config}'
model = dict(backbone=dict(base_channels=8), neck=dict(in_channels=[16, 32, 64]), roi_head=dict(num_stages=2))
train_dataloader = dict(
    num_workers=2, persistent_workers=True, batch_size=2,
    dataset=dict(data_root='{digits}', indices=10, pipeline=[
        dict(type='LoadRGBImage'),
        dict(type='LoadAnnotations', with_bbox=True),
        dict(type='RandomFlip', prob=0.5),
        dict(type='ResizeShortSide', short_sides=[64, 80, 96, 112]),
        dict(type='ClipBoxes'),
        dict(type='PackDetInputs')]))
val_dataloader = dict(dataset=dict(data_root='{digits}', indices=4))
test_dataloader = dict(dataset=dict(data_root='{digits}', indices=4))
val_evaluator = dict(ann_file='{digits}/val.json')
test_evaluator = dict(ann_file='{digits}/val.json')
optim_wrapper = dict(accumulative_counts=3)
train_cfg = dict(max_iters=20, val_interval=7)
default_hooks = dict(
    _delete_=True,
    checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=2, max_keep_ckpts=2, save_best='coco/bbox_mAP',
                    rule='greater'))
custom_hooks = [
    dict(type='EMAHook', ema_type='ExpMomentumEMA', momentum=0.001, gamma=500, update_buffers=True),
    dict(type='EarlyStoppingHook', monitor='coco/bbox_mAP', rule='greater', patience=50)]
"""
EPOCHS = EVERYTHING + """
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=4, val_interval=1, _delete_=True)
train_dataloader['sampler'] = dict(type='DefaultSampler', shuffle=True)
default_hooks['checkpoint'].update(by_epoch=True, interval=1)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=5),
    dict(type='CosineAnnealingLR', by_epoch=True, convert_to_iter_based=True)]
"""
KINDS = {'iterations': EVERYTHING, 'epochs': EPOCHS}


def write_config(path: Path, text: str, digits: Path) -> str:
    path.write_text(text.format(digits_config=DIGITS_CONFIG, digits=digits))
    return str(path)


def killed_runs(tmp_path: Path, kills: int, seed: int, config: str) -> dict[str, list]:
    """Run tests/kit/killed_runs.py in `tmp_path`; what it prints."""
    environment = {**os.environ, 'OMP_NUM_THREADS': '1', 'PYTHONPATH': str(ROOT)}
    done = subprocess.run([sys.executable, str(ROOT / 'tests/kit/killed_runs.py'), str(kills), str(seed), config],
                          cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr + (tmp_path / 'train.log').read_text()[-3000:]
    return json.loads(done.stdout)


@pytest.mark.slow
@pytest.mark.parametrize('kind', KINDS)
def test_killed_at_random_moments(kind: str, digits: Path, tmp_path: Path) -> None:
    """SIGKILL at 10 random moments: every training ends in the checkpoint of one that was not interrupted.

    With random flips and sizes, two workers, gradients of three batches, EMA, early stopping, the best checkpoint.
    """
    config = write_config(tmp_path / 'config.py', KINDS[kind], digits)
    killed = killed_runs(tmp_path, int(os.environ.get('KILLS', 10)), 1, config)
    print(f'reliability: {kind}: killed {sum(map(len, killed.values()))} times in {len(killed)} trainings, at the last '
          f'checkpoints {", ".join(sorted({name or "none" for moments in killed.values() for _, name in moments}))}')
    last = Path((tmp_path / 'whole/last_checkpoint').read_text()).name
    assert any(checkpoint for moments in killed.values() for _, checkpoint in moments)
    for folder in killed:
        assert differences(tmp_path / 'whole' / last, tmp_path / folder / last) == []
        assert ([path.name for path in sorted((tmp_path / 'whole').glob('*.pth'))]
                == [path.name for path in sorted((tmp_path / folder).glob('*.pth'))])


def test_killed_before_old_checkpoints_are_removed(tool: Tool, small: list[str], tmp_path: Path,
                                                   monkeypatch: pytest.MonkeyPatch) -> None:
    """The new checkpoint, and the new best one, are complete then: the next process removes what is outdated."""
    command = ['train', DIGITS_CONFIG, '--work-dir', 'work', '--resume', *small, 'train_cfg.max_iters=4',
               'train_cfg.val_interval=2', 'default_hooks.checkpoint.interval=1',
               'default_hooks.checkpoint.max_keep_ckpts=1', 'default_hooks.checkpoint.save_best=score',
               'default_hooks.checkpoint.rule=greater']
    monkeypatch.setattr(CheckpointHook, 'after_val_epoch', lambda hook, runner, metrics: (
        hook._save_best_checkpoint(runner, {'score': runner.iter})))
    with monkeypatch.context() as patch:
        patch.setattr(CheckpointHook, '_remove_old', lambda hook: None)
        assert tool(*command) == 0
    names = ['best_score_iter_2.pth', 'best_score_iter_4.pth', *(f'iter_{number}.pth' for number in range(1, 5))]
    assert sorted(path.name for path in (tmp_path / 'work').glob('*.pth')) == names
    assert tool(*command) == 0
    assert sorted(path.name for path in (tmp_path / 'work').glob('*.pth')) == ['best_score_iter_4.pth', 'iter_4.pth']


@pytest.fixture
def troubled(small: list[str], tmp_path: Path) -> Callable[..., list[str]]:
    """`troubled(what, at)`: arguments of tools/train.py with augmentation, EMA, accumulation, and trouble."""

    def arguments(what: str = '', at: int = 0, in_validation: bool = False, text: str = '') -> list[str]:
        hooks = [dict(type='EMAHook', ema_type='ExpMomentumEMA', momentum=0.1, update_buffers=True)]
        if what:
            hooks.append(dict(type='Trouble', what=what, at=at, in_validation=in_validation))
        config = tmp_path / 'config.py'
        config.write_text(f"_base_ = '{DIGITS_CONFIG}'\ncustom_hooks = {hooks}\n"
                          "default_hooks = dict(_delete_=True, logger=dict(type='LoggerHook'), "
                          "checkpoint=dict(type='CheckpointHook', by_epoch=False))\n"
                          "train_dataloader = dict(dataset=dict(pipeline=[dict(type='LoadRGBImage'), "
                          "dict(type='LoadAnnotations', with_bbox=True), dict(type='RandomFlip', prob=0.5), "
                          "dict(type='ResizeShortSide', short_sides=[64, 80, 96]), dict(type='ClipBoxes'), "
                          f"dict(type='PackDetInputs')]))\n{text}")
        return [str(config), *small, 'train_cfg.max_iters=7', 'train_cfg.val_interval=5',
                'train_dataloader.batch_size=2', 'default_hooks.checkpoint.interval=4']

    return arguments


@pytest.mark.parametrize(('signal', 'status'), [
    ('SIGINT', 130), *(pytest.param(*case, marks=pytest.mark.slow)
                       for case in (('SIGTERM', 143), ('SIGHUP', 129), ('SIGUSR1', 138)))])
def test_a_signal_stops_after_the_iteration(tool: Tool, troubled: Callable[..., list[str]], tmp_path: Path,
                                            capsys: pytest.CaptureFixture, signal: str, status: int) -> None:
    """It ends with the conventional status and without a traceback; what follows is as if nothing had been."""
    assert tool('train', *troubled(), '--work-dir', 'whole') == 0
    capsys.readouterr()
    assert tool('train', *troubled(signal, 3), '--work-dir', 'work') == status
    printed = capsys.readouterr()
    assert f'{signal} stopped training after iteration 3' in printed.out + printed.err
    assert 'Traceback' not in printed.out + printed.err
    assert [path.name for path in (tmp_path / 'work').glob('*.pth')] == ['iter_3.pth']
    assert tool('train', *troubled(), '--work-dir', 'work', '--resume') == 0
    assert differences(tmp_path / 'whole/iter_7.pth', tmp_path / 'work/iter_7.pth') == []
    assert not (tmp_path / 'work/iter_3.pth').exists()  # the next regular one took its place


@pytest.mark.slow
def test_stopped_twice(tool: Tool, troubled: Callable[..., list[str]], tmp_path: Path,
                       monkeypatch: pytest.MonkeyPatch) -> None:
    """The second stop replaces the checkpoint of the first, and names it, should the process be killed before."""
    assert tool('train', *troubled('SIGINT', 2), '--work-dir', 'work') == 130
    with monkeypatch.context() as patch:
        patch.setattr(Path, 'unlink', lambda *args, **kwargs: None)
        assert tool('train', *troubled('SIGINT', 3), '--work-dir', 'work', '--resume') == 130
    assert sorted(path.name for path in (tmp_path / 'work').glob('*.pth')) == ['iter_2.pth', 'iter_3.pth']
    assert tool('train', *troubled(), '--work-dir', 'work', '--resume') == 0
    assert sorted(path.name for path in (tmp_path / 'work').glob('*.pth')) == ['iter_4.pth', 'iter_7.pth']


@pytest.mark.slow
def test_a_signal_in_validation(tool: Tool, troubled: Callable[..., list[str]], tmp_path: Path) -> None:
    """The averaged weights are in the model then; what is saved are its own, and validation is run again."""
    assert tool('train', *troubled(), '--work-dir', 'whole') == 0
    assert tool('train', *troubled('SIGINT', 5, in_validation=True), '--work-dir', 'work') == 130
    assert read_checkpoint(tmp_path / 'work/iter_5.pth')['training_state']['validated'] == 4
    assert tool('train', *troubled(), '--work-dir', 'work', '--resume') == 0
    assert differences(tmp_path / 'whole/iter_7.pth', tmp_path / 'work/iter_7.pth') == []
    rows = [json.loads(line) for file in sorted((tmp_path / 'work').glob('*/vis_data/scalars.json'))
            for line in file.read_text().splitlines()]
    assert sum('coco/bbox_mAP' in row for row in rows) == 2  # after iterations 5 and 7


@pytest.mark.slow
def test_a_signal_in_the_middle_of_an_epoch(tool: Tool, troubled: Callable[..., list[str]], tmp_path: Path) -> None:
    text = ("train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=2, val_interval=1, _delete_=True)\n"
            "train_dataloader['sampler'] = dict(type='DefaultSampler', shuffle=True)\n"
            "default_hooks['checkpoint']['by_epoch'] = True\n"
            "param_scheduler = [dict(type='CosineAnnealingLR', by_epoch=True), "
            "dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=9)]\n")

    def arguments(*trouble: object) -> list[str]:
        return [argument for argument in troubled(*trouble, text=text)
                if not argument.startswith(('train_cfg.max_iters', 'default_hooks.checkpoint.interval'))] + [
                    'train_cfg.val_interval=1']

    assert tool('train', *arguments(), '--work-dir', 'whole') == 0
    assert tool('train', *arguments('SIGTERM', 11), '--work-dir', 'work') == 143
    meta = read_checkpoint(tmp_path / 'work/iter_11.pth')['meta']
    assert (meta['epoch'], meta['iter']) == (1, 11)
    assert tool('train', *arguments(), '--work-dir', 'work', '--resume') == 0
    assert differences(tmp_path / 'whole/epoch_2.pth', tmp_path / 'work/epoch_2.pth') == []


@pytest.mark.slow
@pytest.mark.parametrize('signal', ['SIGTERM', ''])
def test_in_the_middle_of_an_accumulation(tool: Tool, troubled: Callable[..., list[str]], tmp_path: Path,
                                          signal: str) -> None:
    """Gradients of three batches make a step, and a checkpoint after four or five holds those of one or two."""
    text = 'optim_wrapper = dict(accumulative_counts=3)\n'
    assert tool('train', *troubled(text=text), '--work-dir', 'whole') == 0
    if signal:
        assert tool('train', *troubled(signal, 5, text=text), '--work-dir', 'work') == 143
    else:
        (tmp_path / 'work').mkdir()
        shutil.copy(tmp_path / 'whole/iter_4.pth', tmp_path / 'work')
    assert 'gradients' in read_checkpoint(next((tmp_path / 'work').glob('*.pth')))['training_state']
    assert tool('train', *troubled(text=text), '--work-dir', 'work', '--resume') == 0
    assert differences(tmp_path / 'whole/iter_7.pth', tmp_path / 'work/iter_7.pth') == []


def test_an_error_loses_nothing(tool: Tool, troubled: Callable[..., list[str]], tmp_path: Path,
                                capsys: pytest.CaptureFixture) -> None:
    """Any exception: what was trained before it is saved, and the exception is shown."""
    assert tool('train', *troubled(), '--work-dir', 'whole') == 0
    with pytest.raises(RuntimeError, match='out of memory'):
        tool('train', *troubled('error', 4), '--work-dir', 'work')
    assert tool('train', *troubled(), '--work-dir', 'work', '--resume') == 0
    assert differences(tmp_path / 'whole/iter_7.pth', tmp_path / 'work/iter_7.pth') == []


def test_a_new_seed_is_kept(tool: Tool, troubled: Callable[..., list[str]], tmp_path: Path) -> None:
    """A config without a seed draws one; the order of the data after going on is still that of the first run."""
    free = 'randomness.seed=None'
    assert tool('train', *troubled(), free, '--work-dir', 'whole') == 0
    (tmp_path / 'work').mkdir()
    shutil.copy(tmp_path / 'whole/iter_4.pth', tmp_path / 'work')
    assert tool('train', *troubled(), free, '--work-dir', 'work', '--resume') == 0
    assert differences(tmp_path / 'whole/iter_7.pth', tmp_path / 'work/iter_7.pth') == []
