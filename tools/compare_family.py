"""Train the family on the digits: python tools/compare_family.py [--seeds 0 1 2] prints AP by detector and iteration.

All trainings use the same order of data, schedule and learning rate; only the model and the seed differ. Finished
trainings in the work dir are not repeated. On two cores a training takes 15 to 30 minutes, and all 18 about six hours.
"""
from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path
from statistics import mean

from sparse_rcnn_mm.engine.hooks.curves import read_history
from sparse_rcnn_mm.errors import UserError, one_sentence

ROOT = Path(__file__).resolve().parents[1]
RECOLLECT = 'model.roi_head.type=RecollectingRoIHead'
# Name -> config and the options that make it another detector.
FAMILY: dict[str, tuple[str, list[str]]] = {
    'Sparse R-CNN': ('sparse_rcnn_r18_digits', []),
    'AdaMixer': ('adamixer_r18_digits', []),
    'DDQ R-CNN': ('ddq_rcnn_r18_digits', []),
    'SQR': ('sqr_r18_digits', []),
    'AdaMixer + SQR': ('adamixer_r18_digits', [RECOLLECT]),
    'DDQ R-CNN + SQR': ('ddq_rcnn_r18_digits', [RECOLLECT]),
}


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Train the family on the digits and compare AP.')
    parser.add_argument('--detectors', nargs='+', choices=FAMILY, default=list(FAMILY))
    parser.add_argument('--seeds', nargs='+', type=int, default=[0, 1, 2])
    parser.add_argument('--work-dir', default='work_dirs/family')
    parser.add_argument('--cfg-options', nargs='+', default=[], help='for all trainings, as of tools/train.py')
    return parser.parse_args()


def train(name: str, seed: int, work_dir: Path, options: list[str]) -> Path:
    """Train one detector with one seed, unless that is done, and return its work dir.

    Raises:
        UserError: the training failed.
    """
    config, own = FAMILY[name]
    folder = work_dir / f'{name.replace(" ", "_")}_{seed}'
    if not (folder / 'done').exists():
        done = subprocess.run([sys.executable, str(ROOT / 'tools/train.py'), str(ROOT / f'configs/{config}.py'),
                               '--work-dir', str(folder), '--resume', '--cfg-options', f'randomness.seed={seed}',
                               *own, *options])
        if done.returncode:
            raise UserError(f'training {name} with seed {seed} failed; its output is above, its log in {folder}')
        (folder / 'done').touch()
    return folder


def row(name: str, folders: list[Path]) -> str:
    """A line of the table: AP as mean and range over seeds at every validation, and the median seconds of a step."""
    histories = [read_history(folder) for folder in folders]
    points: dict[int, list[float]] = {}
    for history in histories:
        for step, value in zip(*history.metric('bbox_mAP'), strict=True):
            points.setdefault(step, []).append(value)
    seconds = sorted(value for history in histories for value in history.series('time')[1])
    cells = [f'{step:,}: {mean(values):.3f} ({min(values):.3f} to {max(values):.3f})'
             for step, values in sorted(points.items())]
    return f'| {name} | {" | ".join(cells)} | {seconds[len(seconds) // 2]:.2f} s |'


def main() -> None:
    args = parse_args()
    for name in args.detectors:
        folders = [train(name, seed, Path(args.work_dir), args.cfg_options) for seed in args.seeds]
        print(row(name, folders), flush=True)


if __name__ == '__main__':
    with one_sentence():
        main()
