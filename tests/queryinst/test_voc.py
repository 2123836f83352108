"""A made Pascal VOC tree through the commands: inspected, trained, tested by COCO's metric and by VOC's."""
from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmdet.structures.mask import BitmapMasks
from mmengine.structures import InstanceData
from PIL import Image

import sparse_rcnn_mm
from sparse_rcnn_mm.visualization.contact_sheet import contact_sheet
from tests.kit import CONFIGS
from tests.kit.voc import write_voc

CONFIG = str(CONFIGS / 'queryinst_r18_digits.py')


def test_inspect_shows_masks(tool: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    truth = write_voc(tmp_path / 'data')
    kept = [things for index, things in enumerate(truth.values()) if index % 3 != 2]
    # one object has no mask any more, and another has that of nothing
    masks = sorted((tmp_path / 'data').rglob('SegmentationObject/*.png'))
    with Image.open(masks[0]) as image:
        numbers, palette = np.array(image), image.getpalette()
    numbers[numbers == 1] = 0
    changed = Image.fromarray(numbers, 'P')
    changed.putpalette(palette)
    changed.save(masks[0])
    assert tool('inspect_dataset', tmp_path / 'data', '--config', CONFIG, '--out', 'found') == 0
    said = capsys.readouterr().out
    counts = {line.split()[0]: [int(number) for number in line.split()[1:4]] for line in said.splitlines()
              if line.startswith(('train ', 'val '))}
    train, val = ([len(things) for things in kept[split::2]] for split in (0, 1))
    assert counts == {'train': [4, sum(train), sum(train) - 1], 'val': [4, sum(val), sum(val)]}
    assert f'box in {truth}' not in said and said.count('has no mask; training with masks leaves it out') == 1
    assert tool('inspect_dataset', tmp_path / 'data', '--config', str(CONFIGS / 'sparse_rcnn_r18_digits.py'),
                '--out', 'plain') == 0
    assert 'masks, which a config with masks reads' in capsys.readouterr().out


def test_pictures_of_training_images_show_masks() -> None:
    masks = np.zeros((1, 40, 40), np.uint8)
    masks[0, 10:30, 10:20] = 1
    truth = InstanceData(bboxes=torch.tensor([[5., 5, 35, 35]]), labels=torch.tensor([0]))
    sample = {'inputs': torch.zeros(3, 40, 40, dtype=torch.uint8), 'data_samples': DetDataSample(gt_instances=truth)}
    plain = np.asarray(contact_sheet([sample], ('cat',), tile=160)).astype(int)
    truth.masks = BitmapMasks(masks, 40, 40)
    tinted = np.asarray(contact_sheet([sample], ('cat',), tile=160)).astype(int)
    changed = (plain != tinted).any(-1)
    rows, columns = np.flatnonzero(changed.any(1)), np.flatnonzero(changed.any(0))
    gap = 6
    assert [rows[0], rows[-1] + 1, columns[0], columns[-1] + 1] == [gap + 40, gap + 120, gap + 40, gap + 80]


@pytest.mark.slow
def test_train_and_test_with_both_metrics(tool: Callable[..., int], small: list[str], tmp_path: Path,
                                          capsys: pytest.CaptureFixture) -> None:
    write_voc(tmp_path / 'data')
    assert tool('train', CONFIG, '--data', tmp_path / 'data', '--work-dir', 'work', *small) == 0
    assert tool('test', 'work/iter_4.pth', '--voc-metric') == 0
    assert 'Pascal VOC, IoU 0.5, masks, in percent' in capsys.readouterr().out
    by_path = sparse_rcnn_mm.evaluate('work/iter_4.pth', tmp_path / 'data', voc_metric=True)
    assert {f'{kind}_{name}' for kind in ('coco/bbox', 'coco/segm') for name in ('mAP', 'mAP_50')} <= set(by_path)
    names = {f'voc/{kind}_AP50{points}' for kind in ('bbox', 'segm') for points in ('', '_11points')}
    assert {name: value for name, value in by_path.items() if name.startswith('voc')}.keys() == names
    assert all(0 <= by_path[name] <= 1 for name in names)
