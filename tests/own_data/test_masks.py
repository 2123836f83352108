"""Masks of your own data: COCO segmentations and YOLO outlines reach the training samples of a config with masks."""
from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from mmengine.config import Config
from mmengine.registry import init_default_scope
from PIL import Image

from sparse_rcnn_mm.errors import UserError
from sparse_rcnn_mm.own_data.config import set_training_data
from sparse_rcnn_mm.own_data.inspection import inspect_data
from sparse_rcnn_mm.own_data.mask_inspection import mask_warnings
from sparse_rcnn_mm.own_data.reading import read_data
from sparse_rcnn_mm.registry import DATASETS
from tests.kit import CONFIGS

TRIANGLE = [8, 8, 40, 8, 8, 24]  # in pixels of an image of 64 x 48


def coco_folder(folder: Path) -> None:
    for split in ('train', 'val'):
        images = [{'id': 1, 'file_name': f'{split}.png', 'width': 64, 'height': 48}]
        annotations = [{'id': 1, 'image_id': 1, 'category_id': 3, 'bbox': [8, 8, 32, 16], 'area': 256, 'iscrowd': 0,
                        'segmentation': [TRIANGLE]}]
        (folder / f'{split}.json').write_text(json.dumps(
            {'images': images, 'annotations': annotations, 'categories': [{'id': 3, 'name': 'sail'}]}))


def yolo_folder(folder: Path) -> None:
    (folder / 'data.yaml').write_text('names: [sail]\ntrain: train\nval: val\n')
    outline = ' '.join(f'{value / (64, 48)[place % 2]:.6f}' for place, value in enumerate(TRIANGLE))
    for split in ('train', 'val'):
        (folder / split).mkdir()
        (folder / f'{split}.png').rename(folder / split / 'image.png')
        (folder / split / 'image.txt').write_text(f'0 {outline}\n')


def boxes_only(folder: Path) -> None:
    yolo_folder(folder)
    for split in ('train', 'val'):
        (folder / split / 'image.txt').write_text('0 0.5 0.5 0.2 0.2\n')


def configured(folder: Path, work_dir: Path, make: Callable[[Path], None]) -> Config:
    rng = np.random.default_rng(0)
    for split in ('train', 'val'):
        Image.fromarray(rng.integers(0, 255, (48, 64, 3), np.uint8)).save(folder / f'{split}.png')
    make(folder)
    init_default_scope('sparse_rcnn_mm')
    config = Config.fromfile(CONFIGS / 'queryinst_r50_1x.py')
    config.work_dir = str(work_dir)
    set_training_data(config, str(folder))
    return config


@pytest.mark.parametrize('make', [coco_folder, yolo_folder])
def test_outlines_reach_the_samples(tmp_path: Path, make: Callable[[Path], None]) -> None:
    (folder := tmp_path / 'data').mkdir()
    config = configured(folder, tmp_path / 'work', make)
    assert {config.model.roi_head.mask_head.num_classes, config.model.roi_head.bbox_head.num_classes} == {1}
    sample = DATASETS.build(config.train_dataloader.dataset)[0]['data_samples']
    (mask,), height = sample.gt_instances.masks.masks, sample.img_shape[0]
    assert height == 800
    scale = height / 48
    assert mask.sum() == pytest.approx(32 * 16 / 2 * scale**2, rel=0.12)  # a triangle of 256 pixels, drawn coarsely
    columns = np.flatnonzero(mask.any(0))
    (box,) = sample.gt_instances.bboxes.tensor.tolist()
    assert [columns[0], columns[-1] + 1] == pytest.approx([box[0], box[2]], abs=1.5 * scale)


@pytest.mark.parametrize(('outline', 'said'), [
    (TRIANGLE, ''), (TRIANGLE[:4], 'has no mask; training with masks leaves it out'),
    ([*TRIANGLE, 1e7, 1e7], 'the segmentation has coordinates that are no numbers of pixels; training stops at it')])
def test_what_the_inspection_says_of_an_outline(tmp_path: Path, outline: list[float], said: str) -> None:
    configured(tmp_path, tmp_path / 'work', coco_folder)
    content = json.loads((tmp_path / 'val.json').read_text())
    content['annotations'][0]['segmentation'] = [outline]
    (tmp_path / 'val.json').write_text(json.dumps(content))
    found = list(mask_warnings(read_data(tmp_path).splits['val']))
    assert len(found) == bool(said) and all(str(one).endswith(said) for one in found)
    for masks in (False, True):
        kinds = [one.kind for one in inspect_data(read_data(tmp_path), 100, masks=masks).warnings]
        assert kinds == [one.kind for one in found if masks]


def test_boxes_without_outlines_do_not_train_masks(tmp_path: Path) -> None:
    (folder := tmp_path / 'data').mkdir()
    config = configured(folder, tmp_path / 'work', boxes_only)
    with pytest.raises(UserError, match='has no masks: no annotation has a segmentation'):
        DATASETS.build(config.train_dataloader.dataset)
