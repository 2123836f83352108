"""Several processes on the CPU that fail or are uneven."""
from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sparse_rcnn_mm.checkpoints import not_finite, read_checkpoint
from tests.kit import DIGITS_CONFIG, ROOT

TINY = [
    'train_cfg.max_iters=4', 'train_cfg.val_interval=4', 'default_hooks.checkpoint.interval=2',
    'train_dataloader.batch_size=1', 'train_dataloader.dataset.indices=12', 'val_dataloader.dataset.indices=4',
    'val_dataloader.batch_size=1', 'model.backbone.base_channels=8', 'model.neck.in_channels=[16,32,64]',
    'model.roi_head.num_stages=2', 'randomness.seed=0']


def launch(tmp_path: Path, digits: Path, processes: int, text: str, *options: str,
           restarts: int = 0) -> subprocess.CompletedProcess[str]:
    """tools/dist_train.sh on the digits config with `text` added. `restarts` is torchrun's --max-restarts."""
    config = tmp_path / 'config.py'
    config.write_text(f"_base_ = '{DIGITS_CONFIG}'\ncustom_imports = dict(imports=['tests.kit.trouble'])\n{text}")
    data = [*(f'{split}_dataloader.dataset.data_root={digits}' for split in ('train', 'val')),
            f'val_evaluator.ann_file={digits}/val.json']
    arguments = [str(config), '--work-dir', 'work', *options, '--cfg-options', *TINY, *data]
    launcher = ['bash', str(ROOT / 'tools/dist_train.sh'), arguments[0], str(processes), *arguments[1:]]
    base = {**os.environ, 'OMP_NUM_THREADS': '1', 'PYTHONPATH': str(ROOT), 'PET_MAX_RESTARTS': str(restarts),
            'PATH': f'{Path(sys.executable).parent}:{os.environ["PATH"]}'}
    return subprocess.run(launcher, cwd=tmp_path, env=base, capture_output=True, text=True, timeout=300)


def errors_of(done: subprocess.CompletedProcess[str]) -> list[str]:
    assert 'Traceback' not in done.stderr + done.stdout, done.stderr[-3000:]
    return [line for line in done.stderr.splitlines() if line.startswith('error: ')]


@pytest.mark.slow
def test_a_process_that_dies(tmp_path: Path, digits: Path) -> None:
    """The others stop at once, what was trained is saved, and there is a sentence of each, not a traceback."""
    dies = "custom_hooks = [dict(type='Trouble', what='SIGKILL', at=4, rank=1)]\n"
    done = launch(tmp_path, digits, 2, dies)
    assert done.returncode == 137
    errors = errors_of(done)
    assert errors[-1].startswith('error: process 1 was ended by SIGKILL')
    assert all('another process ended' in error for error in errors[:-1])
    assert 'Traceback' not in done.stderr
    last = (tmp_path / 'work/last_checkpoint').read_text()
    assert not_finite(read_checkpoint(last)) == []
    done = launch(tmp_path, digits, 2, '', '--resume')
    assert done.returncode == 0
    assert (tmp_path / 'work/iter_4.pth').is_file()


@pytest.mark.slow
def test_all_stop_together_after_a_signal_to_one(tmp_path: Path, digits: Path) -> None:
    """One process gets the signal: all of them end with its status after the same iteration, which is saved."""
    done = launch(tmp_path, digits, 2, "custom_hooks = [dict(type='Trouble', what='SIGUSR1', at=3, rank=1)]\n")
    assert done.returncode == 138, done.stderr[-2000:]
    assert 'Traceback' not in done.stderr
    assert read_checkpoint(tmp_path / 'work/iter_3.pth')['meta']['iter'] == 3


@pytest.mark.slow
def test_three_processes_with_empty_images_and_an_uneven_validation(tmp_path: Path, digits: Path) -> None:
    """A third of the images have no box: processes without any ground truth; 4 validation images for 3 processes."""
    annotations = json.loads((digits / 'train.json').read_text())
    annotations['annotations'] = [a for a in annotations['annotations'] if a['image_id'] % 3]
    data = tmp_path / 'data'
    data.mkdir()
    (data / 'train.json').write_text(json.dumps(annotations))
    for name in ('train', 'val', 'val.json'):
        (data / name).symlink_to(digits / name)
    done = launch(tmp_path, data, 3, 'train_dataloader = dict(dataset=dict(filter_cfg=dict(filter_empty_gt=False)))\n')
    assert done.returncode == 0, done.stderr[-3000:]
    assert not_finite(read_checkpoint(tmp_path / 'work/iter_4.pth')) == []
    rows = [json.loads(line) for path in (tmp_path / 'work').glob('*/vis_data/scalars.json')
            for line in path.read_text().splitlines()]
    assert sum('coco/bbox_mAP' in row for row in rows) == 1


@pytest.mark.slow
def test_torchrun_restarts_it(tmp_path: Path, digits: Path) -> None:
    """A process is killed, and torchrun starts all again: they resume by themselves, though one comes late.

    That one finds the addresses of the dead processes in torchrun's store.
    """
    once = ("import os, time\ncustom_hooks = [dict(type='Trouble', what='SIGKILL', at=4, rank=1)]\n"
            "if os.environ['TORCHELASTIC_RESTART_COUNT'] == '1':\n    custom_hooks = []\n"
            "    time.sleep(5 * int(os.environ['RANK']))\n")
    done = launch(tmp_path, digits, 2, once, restarts=1)
    said = done.stdout + done.stderr
    assert done.returncode == 0, said[-3000:]
    assert 'the launcher restarted this training: it resumes in ' in said
    assert 'training resumes after iteration 3' in said or 'training resumes after iteration 2' in said
    contents = read_checkpoint(tmp_path / 'work/iter_4.pth')
    assert contents['meta']['iter'] == 4 and not_finite(contents) == []
