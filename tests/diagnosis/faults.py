"""The doctor's words for planted faults: python -m tests.diagnosis.faults FOLDER prints the table of docs/doctor.md.

It first trains weights on the data without a fault. All of it takes about half an hour on two cores.
"""
from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from .planted import empty, one_class, one_off, shifted, swapped, write_config, write_rectangles

NO_NORMALIZATION = 'model.update(data_preprocessor=dict(mean=[0, 0, 0], std=[1, 1, 1]))'
BGR = 'model.update(data_preprocessor=dict(bgr_to_rgb=True))'
FROZEN = "model['backbone'].update(frozen_stages=4, norm_eval=True, norm_cfg=dict(type='BN', requires_grad=False))"
EIGHTY = """
model['roi_head']['bbox_head'].update(num_classes=80)
data = dict(data_root='data/', metainfo=dict(classes=('thing',)))
train_dataloader['dataset'].update(data)
val_dataloader['dataset'].update(data)
val_evaluator = test_evaluator = dict(ann_file='data/val.json')
"""
NO_GRADIENTS = "custom_imports = dict(imports=['no_gradients'])\nmodel.update(type='NoGradients')"
MODULE = """
from sparse_rcnn_mm.models import SparseRCNN
from sparse_rcnn_mm.registry import MODELS


@MODELS.register_module()
class NoGradients(SparseRCNN):
    def __init__(self, **parts):
        super().__init__(**parts)
        self.requires_grad_(False)
"""


@dataclass(frozen=True)
class Fault:
    """What is changed: the COCO dict of the data, or lines added to the config; and whether weights are given.

    If `named`, the config names its data. Otherwise `--data` does, and sets the number of classes.
    """
    name: str
    change: Callable[[dict], None] = lambda coco: None
    lines: str = ''
    weights: bool = False
    named: bool = False


FAULTS = (
    Fault('boxes shifted 12 px right, 8 px down', shifted),
    Fault('the same, with weights', shifted, weights=True),
    Fault('x and y swapped', swapped),
    Fault('every class replaced by the next, with weights', one_off, weights=True),
    Fault('mean 0 and std 1', lines=NO_NORMALIZATION),
    Fault('the same, with weights', lines=NO_NORMALIZATION, weights=True),
    Fault('BGR instead of RGB, with weights', lines=BGR, weights=True),
    Fault('learning rate x 100', lines="optim_wrapper['optimizer']['lr'] *= 100"),
    Fault('learning rate / 100', lines="optim_wrapper['optimizer']['lr'] /= 100"),
    Fault('no weights, backbone and norms frozen', lines=FROZEN),
    Fault('learning rate 0', lines="optim_wrapper['optimizer']['lr'] = 0"),
    Fault('`requires_grad` off everywhere', lines=NO_GRADIENTS),
    Fault('80 classes for data with one', one_class, lines=EIGHTY, named=True),
    Fault('empty labels', empty),
    Fault('none, with weights', weights=True),
    Fault('none'),
)


def run(command: str, *arguments: object, folder: Path) -> int:
    """Run `sparse-rcnn`; its output goes to a file in `folder`."""
    with open(folder / f'{command}.log', 'w') as log:
        return subprocess.run([sys.executable, '-m', 'sparse_rcnn_command', command, *map(str, arguments)],
                              stdout=log, stderr=log, cwd=folder).returncode


def main(root: Path) -> None:
    """Plant each fault, ask the doctor, and print its words."""
    sound = root / 'sound'
    data = write_rectangles(sound / 'data')
    run('train', write_config(sound), '--data', data, '--work-dir', sound, '--cfg-options', 'train_cfg.max_iters=500',
        folder=sound)
    (weights,) = sound.glob('iter_500.pth')
    for number, fault in enumerate(FAULTS):
        folder = root / str(number)
        data = write_rectangles(folder / 'data', fault.change)
        (folder / 'no_gradients.py').write_text(MODULE)
        options = ['--load-from', weights] if fault.weights else []
        config = write_config(folder, fault.lines)
        run('doctor', *([config] if fault.named else ['--data', data, '--config', config]), '--out', folder / 'out',
            '--minutes', 20, *options, folder=folder)
        found = json.loads((folder / 'out/doctor.json').read_text())
        print(f'| {fault.name} | {found["conclusion"]} |', flush=True)


if __name__ == '__main__':
    main(Path(sys.argv[1]).resolve())
