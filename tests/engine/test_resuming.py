"""--resume and what it finds, through the tool."""
from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from sparse_rcnn_mm.checkpoints import newest_checkpoint, read_checkpoint
from sparse_rcnn_mm.engine.api import _set_start
from sparse_rcnn_mm.engine.testing import _follow_work_dir
from tests.kit import DIGITS_CONFIG
from tests.kit.checkpoints import differences

Tool = Callable[..., int]


@pytest.fixture
def trained(tool: Tool, small: list[str], tmp_path: Path) -> Path:
    """A work dir with checkpoints of iterations 2 and 4, which is the last."""
    assert tool('train', DIGITS_CONFIG, '--work-dir', 'whole', *small) == 0
    return tmp_path / 'whole'


def error_of(capsys: pytest.CaptureFixture) -> str:
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith('error: ')]
    assert len(lines) == 1
    return lines[0]


def test_a_damaged_last_checkpoint(tool: Tool, small: list[str], trained: Path, tmp_path: Path,
                                   capsys: pytest.CaptureFixture) -> None:
    """In a renamed work dir without `last_checkpoint`: the one before is taken, said, and the end is the same."""
    work = tmp_path / 'renamed'
    shutil.copytree(trained, work, ignore=shutil.ignore_patterns('last_checkpoint'))
    data = (work / 'iter_4.pth').read_bytes()
    (work / 'iter_4.pth').write_bytes(data[:-1000])
    assert tool('train', DIGITS_CONFIG, '--work-dir', 'renamed', '--resume', *small) == 0
    printed = capsys.readouterr()
    assert 'iter_4.pth is not a checkpoint, or is damaged' in printed.out + printed.err
    assert 'training resumes after iteration 2' in printed.out + printed.err
    assert differences(trained / 'iter_4.pth', work / 'iter_4.pth') == []


@pytest.mark.slow
def test_a_renamed_and_a_copied_work_dir_go_on_by_themselves(
        tool: Tool, small: list[str], tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """With all that is in them, such as paths of the old folder; everything is written into the new one."""
    first, renamed, copied = (tmp_path / name for name in ('first', 'renamed', 'copied'))
    assert tool('train', DIGITS_CONFIG, '--work-dir', 'first', *small, 'train_cfg.max_iters=2') == 0
    first.rename(renamed)
    assert tool('train', DIGITS_CONFIG, '--work-dir', 'renamed', '--resume', *small, 'train_cfg.max_iters=3',
                'default_hooks.checkpoint.interval=1') == 0
    assert 'training resumes after iteration 2' in ''.join(capsys.readouterr())
    before = {path: path.stat().st_mtime_ns for path in renamed.rglob('*')}
    shutil.copytree(renamed, copied)
    assert tool('train', DIGITS_CONFIG, '--work-dir', 'copied', '--resume', *small) == 0
    assert 'training resumes after iteration 3' in ''.join(capsys.readouterr())
    assert sorted(path.name for path in copied.glob('iter_*.pth')) == ['iter_2.pth', 'iter_3.pth', 'iter_4.pth']
    assert Path((copied / 'last_checkpoint').read_text()).resolve() == copied / 'iter_4.pth'
    assert {path: path.stat().st_mtime_ns for path in renamed.rglob('*')} == before
    assert not first.exists()


@pytest.mark.parametrize('kept', [('meta', 'state_dict', 'message_hub'), ('state_dict',)])
def test_weights_cannot_be_gone_on_from(tool: Tool, small: list[str], trained: Path, tmp_path: Path,
                                        capsys: pytest.CaptureFixture, kept: tuple[str, ...]) -> None:
    contents = read_checkpoint(trained / 'iter_4.pth')
    torch.save({name: contents[name] for name in kept}, tmp_path / 'weights.pth')
    assert tool('train', DIGITS_CONFIG, '--work-dir', 'new', '--resume', 'weights.pth', *small) == 1
    said = error_of(capsys)
    assert 'weights.pth has weights but no optimizer state' in said and '--load-from' in said


def test_only_damaged_ones_do_not_start_from_nothing(tool: Tool, small: list[str], trained: Path,
                                                     capsys: pytest.CaptureFixture) -> None:
    for path in trained.glob('*.pth'):
        path.write_bytes(path.read_bytes()[:5000])
    assert tool('train', DIGITS_CONFIG, '--work-dir', 'whole', '--resume', *small) == 1
    assert 'of 2 checkpoints, none is intact' in error_of(capsys)
    assert len(list(trained.glob('*.pth'))) == 2


def test_started_again_by_a_launcher(tool: Tool, small: list[str], trained: Path, monkeypatch: pytest.MonkeyPatch,
                                     capsys: pytest.CaptureFixture) -> None:
    """As by torchrun --max-restarts or Slurm's --requeue: the same command line, without --resume.

    Not where the launch had been refused, because the folder holds the training of another.
    """
    (trained / 'iter_4.pth').unlink()
    monkeypatch.setenv('SLURM_RESTART_COUNT', '1')
    monkeypatch.setenv('SLURM_JOB_ID', '7')
    (trained / 'launched_by').write_text('Slurm job 6')
    assert tool('train', DIGITS_CONFIG, '--work-dir', 'whole', *small) == 1
    assert 'iter_2.pth is from an earlier training' in error_of(capsys)
    (trained / 'launched_by').write_text('Slurm job 7')
    assert tool('train', DIGITS_CONFIG, '--work-dir', 'whole', *small) == 0
    printed = capsys.readouterr()
    assert 'training resumes after iteration 2' in printed.out + printed.err
    assert (trained / 'iter_4.pth').is_file()


def test_other_classes_are_refused(tool: Tool, small: list[str], trained: Path, tmp_path: Path,
                                   capsys: pytest.CaptureFixture) -> None:
    """Also if their number is the same."""
    contents = read_checkpoint(trained / 'iter_4.pth')
    classes = contents['meta']['dataset_meta']['classes']
    contents['meta']['dataset_meta']['classes'] = [classes[1], classes[0], *classes[2:]]
    torch.save(contents, tmp_path / 'other.pth')
    assert tool('train', DIGITS_CONFIG, '--work-dir', 'new', '--resume', 'other.pth', *small) == 1
    assert (f'other.pth was trained with the classes {classes[1]}, {classes[0]}, {classes[2]}, ' in
            (said := error_of(capsys))) and f'but the data has {classes[0]}, {classes[1]}, ' in said


def test_pretrained_weights_are_not_needed_again(tool: Tool, small: list[str], trained: Path, tmp_path: Path,
                                                 capsys: pytest.CaptureFixture) -> None:
    config = tmp_path / 'pretrained.py'
    config.write_text(f"_base_ = '{DIGITS_CONFIG}'\n"
                      "model = dict(backbone=dict(init_cfg=dict(_delete_=True, type='Pretrained', "
                      "checkpoint='gone.pth')))\n")
    assert tool('train', config, '--work-dir', 'new', *small) == 1
    assert error_of(capsys) == 'error: there is no checkpoint gone.pth'
    assert tool('train', config, '--work-dir', 'whole', '--resume', *small, 'train_cfg.max_iters=5') == 0


def test_training_that_went_back_goes_on_from_there(tmp_path: Path) -> None:
    said: list[str] = []
    for seconds, iteration in enumerate((4, 8, 12, 7)):
        path = tmp_path / f'iter_{iteration}.pth'
        torch.save({'meta': {'iter': iteration, 'epoch': 0}, 'optimizer': {}, 'message_hub': {}}, path)
        os.utime(path, (seconds, seconds))
    (tmp_path / 'last_checkpoint').write_text(str(tmp_path / 'iter_12.pth'))
    found = newest_checkpoint(tmp_path, said.append)
    assert found and found[0].name == 'iter_12.pth' and said == []
    (tmp_path / 'last_checkpoint').write_text(str(tmp_path / 'iter_7.pth'))
    found = newest_checkpoint(tmp_path, said.append)
    assert found and found[0].name == 'iter_7.pth'
    assert said == ['iter_7.pth was written after iter_12.pth, which has more iterations: training went back, and goes '
                    'on from iter_7.pth']


def test_the_annotations_of_a_moved_work_dir(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    written = str(tmp_path / 'gone/data/val.json')
    cfg = Config({'test_dataloader': {'dataset': {'ann_file': written}}, 'test_evaluator': {'ann_file': written}})
    _follow_work_dir(cfg, str(tmp_path / 'here/x.pth'))
    assert cfg.test_evaluator.ann_file == written
    (tmp_path / 'here/data').mkdir(parents=True)
    (tmp_path / 'here/data/val.json').write_text('{}')
    _follow_work_dir(cfg, str(tmp_path / 'here/x.pth'))
    assert cfg.test_dataloader.dataset.ann_file == cfg.test_evaluator.ann_file == str(tmp_path / 'here/data/val.json')
    assert 'val.json is gone: testing on' in capsys.readouterr().out


def averaging(tmp_path: Path) -> str:
    """The digits config with averaged weights."""
    config = tmp_path / 'averaging.py'
    config.write_text(f"_base_ = '{DIGITS_CONFIG}'\n"
                      "custom_hooks = [dict(type='EMAHook', ema_type='ExpMomentumEMA', update_buffers=True)]\n")
    return str(config)


def test_averaged_weights_start_from_what_was_loaded(tool: Tool, small: list[str], trained: Path,
                                                     tmp_path: Path) -> None:
    """From a file that is only a state dict; with a learning rate of 0 they are what was loaded."""
    loaded = read_checkpoint(trained / 'iter_4.pth')['state_dict']
    torch.save(loaded, tmp_path / 'plain.pth')
    assert tool('train', averaging(tmp_path), '--work-dir', 'new', '--load-from', 'plain.pth', *small,
                'optim_wrapper.optimizer.lr=0', 'train_cfg.max_iters=2') == 0
    contents = read_checkpoint(tmp_path / 'new/iter_2.pth')
    for name, value in loaded.items():
        if 'running_' in name or name.endswith('num_batches_tracked'):
            continue
        torch.testing.assert_close(contents['state_dict'][name], value)
        torch.testing.assert_close(contents['ema_state_dict'][f'module.{name}'], value)


def test_averaged_weights_of_another_shape_are_refused(tool: Tool, small: list[str], tmp_path: Path,
                                                       capsys: pytest.CaptureFixture) -> None:
    config = averaging(tmp_path)
    assert tool('train', config, '--work-dir', 'work', *small, 'train_cfg.max_iters=2') == 0
    capsys.readouterr()
    assert tool('train', config, '--work-dir', 'work', '--resume', *small,
                'model.rpn_head.num_proposals=7') == 1
    assert 'iter_2.pth does not fit the model' in error_of(capsys)


def test_weights_to_load_are_not_resumed_because_a_config_was_saved_so() -> None:
    cfg = Config({'resume': True, 'model': {'backbone': {'init_cfg': 1}}})
    _set_start(cfg, 'weights.pth', None)
    assert (cfg.load_from, cfg.resume, cfg.model.backbone.init_cfg) == ('weights.pth', False, None)


def test_a_restart_is_judged_when_the_processes_can_agree(tool: Tool, small: list[str], trained: Path,
                                                          monkeypatch: pytest.MonkeyPatch) -> None:
    """On another machine than the first process's, torchrun has another name: the first process decides."""
    (trained / 'iter_4.pth').unlink()
    monkeypatch.setenv('TORCHELASTIC_RESTART_COUNT', '1')
    (trained / 'launched_by').write_text('torchrun of another machine')
    monkeypatch.setattr('sparse_rcnn_mm.engine.restarts.all_gather_object', lambda here: [True, here])

    def too_early(*_: object) -> None:
        raise AssertionError('the processes are not connected yet')

    monkeypatch.setattr('sparse_rcnn_mm.engine.api.refuse_earlier_training', too_early)
    assert tool('train', DIGITS_CONFIG, '--work-dir', 'whole', *small) == 0
    assert (trained / 'iter_4.pth').is_file()


@pytest.mark.slow
def test_checkpoints_of_another_folder_are_not_removed(tool: Tool, small: list[str], tmp_path: Path) -> None:
    """The copy of a work dir remembers the best checkpoint of the original by its full path."""
    best = ['default_hooks.checkpoint.save_best=coco/bbox_mAP_m', 'default_hooks.checkpoint.rule=less',
            'train_cfg.val_interval=2']
    assert tool('train', DIGITS_CONFIG, '--work-dir', 'one', *small, *best) == 0
    shutil.copytree(tmp_path / 'one', tmp_path / 'two')
    before = sorted(path.name for path in (tmp_path / 'one').glob('*.pth'))
    assert any(name.startswith('best_') for name in before)
    assert tool('train', DIGITS_CONFIG, '--work-dir', 'two', '--resume', *small, *best, 'train_cfg.max_iters=8',
                'default_hooks.checkpoint.max_keep_ckpts=1') == 0
    assert sorted(path.name for path in (tmp_path / 'one').glob('*.pth')) == before
