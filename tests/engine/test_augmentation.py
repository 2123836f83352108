"""Augmentation by name: boxes stay on what they were drawn around, and every config takes it."""
from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mmdet.structures.bbox import HorizontalBoxes
from mmdet.structures.mask import BitmapMasks
from mmengine.config import Config
from mmengine.registry import DefaultScope
from PIL import Image, ImageDraw

from sparse_rcnn_mm.datasets.copy_paste import PasteObjects
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


COLORS = np.array([[250, 0, 0], [0, 250, 0], [0, 0, 250], [250, 250, 0]])


@pytest.fixture(scope='module')
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four dark images, each with an L and a triangle in the color of its class, with their polygons."""
    folder = tmp_path_factory.mktemp('shapes')
    images, annotations = [], []
    for index, (width, height) in enumerate(SIZES):
        picture = Image.new('RGB', (width, height), (20, 20, 20))
        for polygon in ([(10, 10), (50, 10), (50, 40), (90, 40), (90, 90), (10, 90)],
                        [(width - 10, height - 10), (width - 10, height - 70), (width - 70, height - 10)]):
            ImageDraw.Draw(picture).polygon([(x, y) for x, y in polygon], fill=tuple(COLORS[index].tolist()))
            (x1, y1), (x2, y2) = np.min(polygon, 0).tolist(), np.max(polygon, 0).tolist()
            annotations.append(dict(
                id=len(annotations) + 1, image_id=index, category_id=index, iscrowd=0, bbox=[x1, y1, x2 - x1, y2 - y1],
                area=1, segmentation=[[value for point in polygon for value in point]]))
        picture.save(folder / f'{index}.png')
        images.append(dict(id=index, file_name=f'{index}.png', width=width, height=height))
    (folder / 'a.json').write_text(json.dumps(dict(images=images, annotations=annotations, categories=[
        dict(id=index, name=str(index)) for index in range(4)])))
    return folder


def pasted(folder: Path, config: str, **options: Any) -> Any:
    cfg = loaded(config, augmentation='copy_paste', **options)
    dataset = cfg.train_dataloader.dataset
    innermost_dataset(dataset).update(data_root=f'{folder}/', ann_file='a.json', data_prefix=dict(img=''),
                                      metainfo=dict(classes=('0', '1', '2', '3')), filter_cfg=None)
    with DefaultScope.overwrite_default_scope('sparse_rcnn_mm'):
        return DATASETS.build(dataset)


def test_pasted_objects_have_their_pixels_masks_and_boxes(shapes: Path) -> None:
    dataset = pasted(shapes, 'queryinst_r50_1x')
    dataset.pipeline[0].prob = 1.0
    next(step for step in dataset.pipeline if type(step).__name__ == 'ResizeShortSide').short_sides = [240]
    np.random.seed(1)
    of_others = 0
    for index in range(24):
        sample = dataset[index % 4]
        truth = sample['data_samples'].gt_instances
        pixels = sample['inputs'].numpy().transpose(1, 2, 0).astype(int)
        distances = np.abs(pixels[..., None, :] - np.array([[20, 20, 20], *COLORS])).max(-1)
        color = np.where(distances.min(-1) < 40, distances.argmin(-1) - 1, -2)  # -2: mixed at an edge
        assert len(truth.masks) == len(truth.bboxes) == len(truth.labels)
        claimed = np.zeros(color.shape, bool)
        for mask, label, box in zip(truth.masks.masks.astype(bool), truth.labels, truth.bboxes.tensor, strict=True):
            of_others += int(label) != index % 4
            assert (color[mask & (color > -2)] == int(label)).mean() > 0.95  # polygons are drawn to about a pixel
            assert not (claimed & mask).any()  # every pixel belongs to one object at most
            claimed |= mask
            rows, columns = np.nonzero(mask)
            extents = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            assert np.abs(np.array(extents) - box.numpy()).max() <= 2.5, (index, extents, box)
        left = sum(((color == label) & ~claimed).sum() for label in range(4))
        assert left < 0.05 * color.size  # what is left of dropped objects
    assert of_others > 15


def test_copy_paste_for_boxes_leaves_no_masks(shapes: Path) -> None:
    dataset = pasted(shapes, 'sparse_rcnn_r50_3x')
    assert [type(step).__name__ for step in dataset.pipeline] == [
        'PasteObjects', 'DropMasks', 'RandomFlip', 'ResizeShortSide', 'ClipBoxes', 'PackDetInputs']
    np.random.seed(0)
    samples = [dataset[index % 4]['data_samples'].gt_instances for index in range(8)]
    assert all('masks' not in sample and len(sample.bboxes) == len(sample.labels) for sample in samples)
    assert max(len(sample.labels) for sample in samples) > 2


def test_copy_paste_by_hand() -> None:
    """A pasted square covers half of one square, all of another, and none of a third."""
    def results(*squares: tuple[int, int, int, int]) -> dict[str, Any]:
        masks = np.zeros((len(squares), 8, 8), np.uint8)
        for mask, (x1, y1, x2, y2) in zip(masks, squares, strict=True):
            mask[y1:y2, x1:x2] = 1
        return dict(img=np.full((8, 8, 3), 9, np.uint8), gt_masks=BitmapMasks(masks, 8, 8),
                    gt_bboxes=HorizontalBoxes(np.array(squares, np.float32)),
                    gt_bboxes_labels=np.arange(len(squares)), gt_ignore_flags=np.zeros(len(squares), bool))

    below = results((0, 0, 4, 4), (2, 0, 4, 2), (5, 5, 8, 8))
    above = np.zeros((1, 8, 8), np.uint8)
    above[0, 0:4, 2:5] = 1
    PasteObjects()._paste(below, np.full((8, 8, 3), 200, np.uint8), above, np.array([7]))
    assert below['gt_bboxes'].tensor.tolist() == [[0, 0, 2, 4], [5, 5, 8, 8], [2, 0, 5, 4]]
    assert below['gt_bboxes_labels'].tolist() == [0, 2, 7]
    assert below['gt_masks'].masks.sum((1, 2)).tolist() == [8, 9, 12]
    assert (below['img'][..., 0] == 200).sum() == 12
    assert PasteObjects(min_visible=0.6)._visible(np.ones((2, 1, 5)) * [[[0]], [[1]]], np.ones((2, 2, 5))).tolist() == [
        False, False]


def test_mosaic_does_not_mix_masks() -> None:
    with pytest.raises(UserError, match='Mosaic does not mix masks'):
        loaded('queryinst_r50_1x', augmentation=['copy_paste', 'mosaic'])
    both = loaded('sparse_rcnn_r50_3x', augmentation=['mosaic', 'copy_paste']).train_dataloader.dataset
    assert [step['type'] for step in both.pipeline][:3] == ['PasteObjects', 'DropMasks', 'Mosaic']


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
            (str(CONFIGS / 'sparse_rcnn_r50_3x.py'), 'has none of mixed_with_masks, mixed, after_loading')]:
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


def test_inspection_shows_pasted_objects(tool: Callable[..., int], shapes: Path, tmp_path: Path) -> None:
    """In some picture there are two colors; without pasting every image has one."""
    for name in ('plain', 'copy_paste'):
        extra = [] if name == 'plain' else ['--cfg-options', 'augmentation=copy_paste']
        assert tool('inspect_dataset', shapes / 'a.json', '--pictures', '8', '--out', name, *extra) == 0
    written = json.loads((tmp_path / 'copy_paste/data/all.json').read_text())
    assert all(annotation['segmentation'] for annotation in written['annotations'])
    plain, pasted_page = (np.asarray(Image.open(tmp_path / name / 'inspection.png')).astype(int)
                          for name in ('plain', 'copy_paste'))
    assert not np.array_equal(plain, pasted_page)
