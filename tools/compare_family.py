"""Train the family on the digits: python tools/compare_family.py [--seeds 0 1 2] prints AP by detector and iteration.

All trainings use the same order of data, schedule and learning rate; only the model and the seed differ. Finished
trainings in the work dir are not repeated. On two cores a training takes 15 to 30 minutes, and all 21 about seven
hours. With `--data FOLDER`, they train on that data set instead.
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
WHOLE_IMAGE = 'model.rpn_head.grid=[1,1]'  # the start of the paper, and of AdaMixer
# Name -> config and the options that make it another detector.
FAMILY: dict[str, tuple[str, list[str]]] = {
    'Sparse R-CNN': ('sparse_rcnn_r18_digits', [WHOLE_IMAGE]),
    'Sparse R-CNN, grid': ('sparse_rcnn_r18_digits', []),
    'AdaMixer': ('adamixer_r18_digits', []),
    'DDQ R-CNN': ('ddq_rcnn_r18_digits', []),
    'SQR': ('sqr_r18_digits', [WHOLE_IMAGE]),
    'AdaMixer + SQR': ('adamixer_r18_digits', [RECOLLECT]),
    'DDQ R-CNN + SQR': ('ddq_rcnn_r18_digits', [RECOLLECT]),
}


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Train the family on the digits and compare AP.')
    parser.add_argument('--detectors', nargs='+', choices=FAMILY, default=list(FAMILY))
    parser.add_argument('--seeds', nargs='+', type=int, default=[0, 1, 2])
    parser.add_argument('--work-dir', default='work_dirs/family')
    parser.add_argument('--data', help='train on this data set instead of the digits, as of tools/train.py')
    parser.add_argument('--metric', default='bbox_mAP', help='the number to print, such as bbox_mAP_50')
    parser.add_argument('--cfg-options', nargs='+', default=[], help='for all trainings, as of tools/train.py')
    return parser.parse_args()


def train(name: str, seed: int, work_dir: Path, data: list[str], options: list[str]) -> Path:
    """Train one detector with one seed, unless that is done, and return its work dir.

    Raises:
        UserError: the training failed.
    """
    config, own = FAMILY[name]
    folder = work_dir / f'{name.replace(" ", "_")}_{seed}'
    if not (folder / 'done').exists():
        done = subprocess.run([sys.executable, str(ROOT / 'tools/train.py'), str(ROOT / f'configs/{config}.py'),
                               *data, '--work-dir', str(folder), '--resume', '--cfg-options',
                               f'randomness.seed={seed}', *own, *options])
        if done.returncode:
            raise UserError(f'training {name} with seed {seed} failed; its output is above, its log in {folder}')
        (folder / 'done').touch()
    return folder


def row(name: str, folders: list[Path], metric: str) -> str:
    """A line of the table: mean and range of the metric over seeds at each validation, and median seconds of a step."""
    histories = [read_history(folder) for folder in folders]
    points: dict[int, list[float]] = {}
    for history in histories:
        for step, value in zip(*history.metric(metric), strict=True):
            points.setdefault(step, []).append(value)
    seconds = sorted(value for history in histories for value in history.series('time')[1])
    cells = [f'{step:,}: {mean(values):.3f} ({min(values):.3f} to {max(values):.3f})'
             for step, values in sorted(points.items())]
    return f'| {name} | {" | ".join(cells)} | {seconds[len(seconds) // 2]:.2f} s |'


def main() -> None:
    args = parse_args()
    data = ['--data', args.data] if args.data else []
    for name in args.detectors:
        folders = [train(name, seed, Path(args.work_dir), data, args.cfg_options) for seed in args.seeds]
        print(row(name, folders, args.metric), flush=True)


if __name__ == '__main__':
    with one_sentence():
        main()
