"""Several processes on the CPU, by the scripts that users start them with."""
from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sparse_rcnn_mm.engine.hooks.curves import read_history
from tests.kit import DIGITS_CONFIG, ROOT


def losses(work_dir: Path, processes: int) -> list[dict[str, float]]:
    """The losses of every iteration, averaged over the processes."""
    files = [(work_dir / f'losses_{rank}.jsonl').read_text().splitlines() for rank in range(processes)]
    rows = [[json.loads(line) for line in lines] for lines in zip(*files, strict=True)]
    return [{name: sum(row[name] for row in same) / processes for name in same[0]} for same in rows]


@pytest.mark.slow
def test_two_processes_train_like_one(digits: Path, tmp_path: Path) -> None:
    """2 processes x batch 4 give the losses of 1 process x batch 8 on the same images, for 5 iterations, in float64.

    So does the validation loss, of one batch in each process and of two in one.
    """
    options = [
        '--cfg-options', 'train_cfg.max_iters=5', 'param_scheduler=None', 'default_hooks.logger.interval=1',
        'randomness.seed=3', 'train_dataloader.sampler.seed=3',
        *(f'{split}_dataloader.dataset.data_root={digits}' for split in ('train', 'val')),
        f'val_evaluator.ann_file={digits}/val.json', 'val_dataloader.dataset.indices=4', 'val_dataloader.batch_size=2',
    ]
    environment = {**os.environ, 'OMP_NUM_THREADS': '1', 'PYTHONPATH': str(Path(__file__).parent),
                   'PATH': f'{Path(sys.executable).parent}:{os.environ["PATH"]}'}

    def run(*command: str) -> None:
        subprocess.run(command, check=True, cwd=tmp_path, env=environment)

    config = tmp_path / 'recorded.py'
    config.write_text(f"_base_ = '{DIGITS_CONFIG}'\ncustom_imports = dict(imports=['loss_recorder'])\n"
                      "custom_hooks = [dict(type='LossRecorder'), dict(type='ValidationLossHook')]\n")
    train = str(ROOT / 'tools/train.py')
    run(sys.executable, train, str(config), '--work-dir', 'one', *options, 'train_dataloader.batch_size=8')
    script = str(ROOT / 'tools/dist_train.sh')
    run('bash', script, str(config), '2', '--work-dir', 'two', *options, 'train_dataloader.batch_size=4')

    one, two = losses(tmp_path / 'one', 1), losses(tmp_path / 'two', 2)
    assert len(one) == len(two) == 5
    worst = max(abs(two[i][name] / one[i][name] - 1) for i in range(5) for name in one[i])
    print(f'largest relative difference of a loss {worst:.1e} (tolerance 1e-4)')
    assert worst < 1e-4
    assert list((tmp_path / 'two').glob('*.pth'))
    validated = [read_history(tmp_path / folder).val[5]['val_loss'] for folder in ('one', 'two')]
    assert validated[0] == pytest.approx(validated[1], rel=1e-4)
