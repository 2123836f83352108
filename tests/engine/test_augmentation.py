"""Augmentation by name: boxes stay on what they were drawn around, and every config takes it."""
from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mmengine.config import Config
from mmengine.registry import DefaultScope
from PIL import Image

from sparse_rcnn_mm.datasets.transforms import RoundPixels
from sparse_rcnn_mm.engine import load_config
from sparse_rcnn_mm.engine.augmentation import augmentation_names
from sparse_rcnn_mm.errors import UserError
from sparse_rcnn_mm.registry import DATASETS, innermost_dataset
from tests.kit import CONFIGS

RED, DARK = np.array([255, 0, 0]), np.array([20, 20, 20])
BOXES = [(30, 40, 200, 150), (100, 20, 160, 300), (5, 5, 315, 235), (40, 60, 90, 110)]
SIZES = [(320, 240), (240, 320), (320, 240), (120, 160)]


@pytest.fixture(scope='module')
def painted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four dark images with one red rectangle each, as a COCO data set."""
    folder = tmp_path_factory.mktemp('painted')
    images, annotations = [], []
    for index, ((width, height), (x1, y1, x2, y2)) in enumerate(zip(SIZES, BOXES, strict=True), start=1):
        pixels = np.full((height, width, 3), DARK, np.uint8)
        pixels[y1:y2, x1:x2] = RED
        Image.fromarray(pixels).save(folder / f'{index}.png')
        images.append(dict(id=index, file_name=f'{index}.png', width=width, height=height))
        annotations.append(dict(id=index, image_id=index, category_id=1, iscrowd=0, bbox=[x1, y1, x2 - x1, y2 - y1],
                                area=(x2 - x1) * (y2 - y1)))
    (folder / 'a.json').write_text(json.dumps(dict(images=images, annotations=annotations,
                                                   categories=[dict(id=1, name='person')])))
    return folder


def loaded(config: str = 'sparse_rcnn_r50_3x', **options: Any) -> Config:
    return load_config(argparse.Namespace(config=config, cfg_options=options, work_dir=None, launcher='none'))


def built(painted: Path, **options: Any) -> Any:
    cfg = loaded(**options)
    innermost_dataset(cfg.train_dataloader.dataset).update(
        data_root=f'{painted}/', ann_file='a.json', data_prefix=dict(img=''), metainfo=dict(classes=('person',)))
    with DefaultScope.overwrite_default_scope('sparse_rcnn_mm'):
        return DATASETS.build(cfg.train_dataloader.dataset)


def red_of(sample: dict[str, Any]) -> np.ndarray:
    """(H, W) where a pixel is nearer to the rectangles' red than to their dark surroundings."""
    pixels = sample['inputs'].numpy().transpose(1, 2, 0).astype(int)
    return (pixels[..., 0] > 137) & (pixels[..., 1] < 60)  # the gray around a mosaic has all channels alike


@pytest.mark.parametrize('names', ['large_scale_jitter', 'mosaic', ['mosaic', 'large_scale_jitter']])
def test_boxes_stay_on_their_rectangles_to_a_pixel(painted: Path, names: str | list[str]) -> None:
    dataset = built(painted, augmentation=names)
    np.random.seed(0)
    seen, sizes = 0, set()
    for index in range(24):
        sample = dataset[index % 4]
        red = red_of(sample)
        left = red.copy()
        sizes.add(red.shape)
        for x1, y1, x2, y2 in sample['data_samples'].gt_instances.bboxes.tensor.numpy():
            top, bottom, start, end = (int(value) for value in (max(y1 - 2, 0), y2 + 3, max(x1 - 2, 0), x2 + 3))
            rows, columns = np.nonzero(red[top:bottom, start:end])
            left[top:bottom, start:end] = False
            if min(x2 - x1, y2 - y1) < 3:
                continue
            found = [start + columns.min(), top + rows.min(), start + columns.max() + 1, top + rows.max() + 1]
            assert np.abs(np.array(found) - [x1, y1, x2, y2]).max() <= 1, (index, found, (x1, y1, x2, y2))
            seen += 1
        assert not left.any()  # nothing red without a box
    assert seen > 12 and len(sizes) > 3


def test_photometric_distortion_moves_no_box(painted: Path) -> None:
    plain, distorted = built(painted), built(painted, augmentation='photometric')
    changed = 0
    for index in range(4):
        one = None
        for dataset in (plain, distorted):
            for step in dataset.pipeline.transforms:  # the draws of the distortion must not shift those of the others
                if type(step).__name__ == 'RandomFlip':
                    step.prob = 1.0
                if type(step).__name__ == 'ResizeShortSide':
                    step.short_sides = [480]
            sample = dataset[index]
            assert str(sample['inputs'].dtype) == 'torch.uint8'
            boxes = sample['data_samples'].gt_instances.bboxes.tensor.numpy()
            if one is not None:
                np.testing.assert_array_equal(boxes, one[0])
                changed += not np.array_equal(sample['inputs'].numpy(), one[1])
            one = boxes, sample['inputs'].numpy()
    assert changed >= 3


def test_rounded_pixels() -> None:
    image = np.array([[[-3.2, 0.4, 254.6]], [[300, 1.5, 127.5]]], np.float32)
    assert RoundPixels().transform({'img': image})['img'].tolist() == [[[0, 0, 255]], [[255, 2, 128]]]


def test_the_pipeline_that_comes_out() -> None:
    types = lambda steps: [step['type'] for step in steps]  # noqa: E731
    crop = loaded('sparse_rcnn_r50_300pro_3x', augmentation=['photometric', 'large_scale_jitter'])
    assert types(crop.train_dataloader.dataset.pipeline) == [
        'LoadRGBImage', 'LoadAnnotations', 'PhotoMetricDistortion', 'RoundPixels', 'RandomFlip', 'RandomResize',
        'RandomCrop', 'ClipBoxes', 'PackDetInputs']
    mixed = loaded('sparse_rcnn_r50_3x', augmentation='mosaic').train_dataloader.dataset
    assert mixed.type == 'MultiImageMixDataset' and mixed.dataset.type == 'CocoDataset'
    assert types(mixed.dataset.pipeline) == ['LoadRGBImage', 'LoadAnnotations']
    assert types(mixed.pipeline) == ['Mosaic', 'RandomFlip', 'ResizeShortSide', 'ClipBoxes', 'PackDetInputs']
    assert 'augmentation' not in crop


@pytest.mark.parametrize('config', ['sparse_rcnn_r50_finetune', 'adamixer_r50_300pro_3x', 'ddq_rcnn_r50_1x',
                                    'sparse_rcnn_r18_digits'])
def test_every_config_takes_every_augmentation(config: str) -> None:
    plain = loaded(config)
    for name in augmentation_names():
        assert loaded(config, augmentation=name).train_dataloader != plain.train_dataloader


def test_a_file_of_ones_own_and_mistakes(tmp_path: Path) -> None:
    mine = tmp_path / 'mine.py'
    mine.write_text("after_loading = [dict(type='RandomFlip', prob=0.5, direction='vertical')]")
    assert loaded(augmentation=str(mine)).train_dataloader.dataset.pipeline[2]['direction'] == 'vertical'
    for names, message in [
            ('mosiac', "there is no augmentation mosiac.*did you mean 'mosaic'"),
            (['large_scale_jitter'] * 2, 'only one of them can replace the resizing'),
            (str(CONFIGS / 'sparse_rcnn_r50_3x.py'), 'has none of mixed, after_loading, instead_of_resizing')]:
        with pytest.raises(UserError, match=message):
            loaded(augmentation=names)
    empty = tmp_path / 'empty.py'
    empty.write_text("train_dataloader = dict(dataset=dict(type='CocoDataset', pipeline=[dict(type='PackDetInputs')]))")
    with pytest.raises(UserError, match='the training pipeline does not begin with LoadRGBImage'):
        loaded(str(empty), augmentation='mosaic')
    empty.write_text("train_dataloader = dict(dataset=dict(type='CocoDataset', pipeline=[dict(type='LoadRGBImage')]))")
    with pytest.raises(UserError, match='has no resizing to replace'):
        loaded(str(empty), augmentation='large_scale_jitter')


@pytest.mark.slow
def test_training_and_inspection_see_it(tool: Callable[..., int], small: list[str], digits: Path,
                                        tmp_path: Path) -> None:
    options = ['augmentation=mosaic,photometric' if option.startswith('default_hooks.logger') else option
               for option in small]
    assert tool('train', CONFIGS / 'sparse_rcnn_r18_digits.py', '--work-dir', 'work', *options) == 0
    written = Config.fromfile(tmp_path / 'work/sparse_rcnn_r18_digits.py')
    assert written.train_dataloader.dataset.type == 'MultiImageMixDataset'
    pages = {}
    for name in ('plain', 'mosaic'):
        extra = [] if name == 'plain' else ['--cfg-options', 'augmentation=mosaic']
        assert tool('inspect_dataset', digits / 'val.json', '--config', 'sparse_rcnn_r18_digits', '--pictures', '4',
                    '--out', name, *extra) == 0
        pages[name] = np.asarray(Image.open(tmp_path / name / 'inspection.png'))
    assert pages['plain'].shape[1] == pages['mosaic'].shape[1]
    gray = (pages['mosaic'] == 114).all(axis=-1).mean()
    assert gray > 0.02 > (pages['plain'] == 114).all(axis=-1).mean()
