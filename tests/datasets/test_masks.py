"""Masks from the annotation file to the batch: decoded as pycocotools does, and never apart from their boxes."""
from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mmdet.structures.bbox import HorizontalBoxes
from mmdet.structures.mask import BitmapMasks
from mmengine.dataset import Compose
from mmengine.registry import init_default_scope
from PIL import Image
from pycocotools import mask as rle_codec

from sparse_rcnn_mm.datasets import CocoDataset, column_cache
from sparse_rcnn_mm.datasets.masks import decode_segmentation, encode_segmentation
from sparse_rcnn_mm.datasets.transforms import ClipBoxes, RandomCropRange, ResizeShortSide
from sparse_rcnn_mm.errors import UserError
from sparse_rcnn_mm.registry import TRANSFORMS

SQUARE = [2, 1, 8, 1, 8, 5, 2, 5]


@pytest.fixture(scope='module', autouse=True)
def _scope() -> None:
    init_default_scope('sparse_rcnn_mm')


def compressed(bitmap: np.ndarray) -> dict[str, Any]:
    rle = rle_codec.encode(np.asfortranarray(bitmap))
    return {'size': [int(side) for side in rle['size']], 'counts': rle['counts'].decode()}


def test_a_square_by_hand_in_all_forms() -> None:
    wanted = np.zeros((8, 10), np.uint8)
    wanted[1:5, 2:8] = 1
    # Column by column: 17 pixels of nothing, then four of the square in each of six columns, four of nothing between.
    counts = [17, *[4, 4] * 5, 4, 19]
    for segmentation in ([SQUARE], [SQUARE, [1, 1, 2]], {'size': [8, 10], 'counts': counts}, compressed(wanted)):
        assert (decode_segmentation(segmentation, 8, 10) == wanted).all()


@pytest.mark.parametrize('seed', range(20))
def test_run_lengths_as_pycocotools_reads_them(seed: int) -> None:
    rng = np.random.default_rng(seed)
    bitmap = (rng.random(rng.integers(1, 90, 2)) < rng.random()).astype(np.uint8)
    assert (decode_segmentation(compressed(bitmap), *bitmap.shape) == bitmap).all()


@pytest.mark.parametrize(('segmentation', 'reason'), [
    ({'size': [8, 11], 'counts': [88]}, r'size \[8, 11\], but the image is 8 high and 10 wide'),
    ({'size': [8, 10], 'counts': [81]}, 'do not add up'), ({'size': [8, 10], 'counts': 'o'}, 'do not add up'),
    ({'size': [8, 10], 'counts': 'é'}, 'neither numbers nor'), ({'counts': []}, 'neither a list of polygons'),
    ({'size': [8, 10], 'counts': [90, -10]}, 'do not add up'), ({'size': [8, 10], 'counts': ''}, 'do not add up'),
    ({'size': [8, 10], 'counts': 'PP'}, 'do not add up'), ({'size': [8, 10], 'counts': '`RPPPPP0'}, 'do not add up'),
    ({'size': [8, 10], 'counts': [2**64, 80 - 2**64]}, 'do not add up'),
    ([[0, 9e5, 0, -9e5] * 3], 'an outline of more than 10,000,000 pixels'),
    ([1, 2, 3, 4, 5, 6], 'not a list of polygons'), ([['1', 2, 3, 4, 5, 6]], 'no numbers'), ([[1, 2]], 'no polygon')])
def test_what_is_no_segmentation(segmentation: Any, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        decode_segmentation(segmentation, 8, 10)


def unpacked(text: str) -> list[int] | None:
    """The numbers of COCO's text, one bit group after the other. None if it ends within a number."""
    runs: list[int] = []
    value = shift = 0
    for character in text:
        group = ord(character) - 48
        value |= (group & 31) << shift
        shift += 5
        if not group & 32:
            value -= (group & 16) and 1 << shift
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value = shift = 0
    return None if shift else runs


def test_any_text_is_read_as_coco_reads_it_or_refused() -> None:
    rng = np.random.default_rng(0)
    valid = 0
    for _ in range(4000):
        height, width = rng.integers(1, 6, 2).tolist()
        text = ''.join(chr(code) for code in rng.choice([*range(48, 58), 63, 64, 79, 80, 81, 95, 111],
                                                        rng.integers(1, 6)))
        runs = unpacked(text)
        if runs is None or min(runs) < 0 or sum(runs) != height * width:
            with pytest.raises(ValueError, match='do not add up'):
                encode_segmentation({'size': [height, width], 'counts': text}, height, width)
            continue
        valid += 1
        wanted = np.repeat(np.arange(len(runs)) % 2, runs).reshape(width, height).T
        found = encode_segmentation({'size': [height, width], 'counts': text}, height, width)
        assert found == compressed(wanted.astype(np.uint8))
    assert valid > 40


def test_runs_of_nothing_are_joined() -> None:
    """pycocotools merges such run lengths to more than it has memory for."""
    counts = [0, 0, 17, 1, 0, 3, *[0] * 500, 59]
    wanted = np.repeat(np.arange(len(counts)) % 2, counts).astype(np.uint8).reshape(10, 8).T
    assert encode_segmentation({'size': [8, 10], 'counts': counts}, 8, 10) == compressed(wanted)


def test_sizes_that_no_bitmap_has() -> None:
    for size in ([2**15, 2**15], [8.5, 10], [float('nan'), 10]):
        with pytest.raises(ValueError, match='masks need whole numbers, and at most 536,870,912 pixels'):
            encode_segmentation([SQUARE], *size)
    assert encode_segmentation([SQUARE], 8.0, 10.0) == encode_segmentation([SQUARE], 8, 10)


def test_the_largest_run_lengths() -> None:
    """All six groups of five bits of a number, with and without its sign."""
    height, width = 2**14, 2**15
    counts = [1, height * width - 3, 1, 1]
    rle = encode_segmentation({'size': [height, width], 'counts': counts}, height, width)
    assert rle_codec.area(rle) == counts[1] + 1 and encode_segmentation(rle, height, width) == rle
    assert rle_codec.toBbox(rle).tolist() == [0, 0, width, height]


def annotated(boxes: np.ndarray, bitmaps: np.ndarray) -> dict[str, Any]:
    """What a pipeline has after loading; the boxes carry their number as label."""
    height, width = bitmaps.shape[1:]
    return {'img': np.zeros((height, width, 3), np.uint8), 'img_shape': (height, width), 'ori_shape': (height, width),
            'gt_bboxes': HorizontalBoxes(boxes.astype(np.float32)), 'gt_masks': BitmapMasks(bitmaps, height, width),
            'gt_bboxes_labels': np.arange(len(boxes)), 'gt_ignore_flags': np.zeros(len(boxes), bool)}


def extent(bitmap: np.ndarray) -> list[int]:
    """The box of a mask."""
    rows, columns = np.flatnonzero(bitmap.any(1)), np.flatnonzero(bitmap.any(0))
    return [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]


def shapes(rng: np.random.Generator, round_ones: bool) -> tuple[np.ndarray, np.ndarray]:
    """Five ellipses or rectangles of 12 pixels and more, and their boxes."""
    height, width = rng.integers(60, 130, 2)
    y, x = np.mgrid[:height, :width] + 0.5
    bitmaps = []
    for _ in range(5):
        center, radius = rng.uniform(0, [width, height]), rng.uniform(8, 40, 2)
        dx, dy = (x - center[0]) / radius[0], (y - center[1]) / radius[1]
        bitmaps.append(dx**2 + dy**2 <= 1 if round_ones else np.maximum(abs(dx), abs(dy)) <= 1)
    return np.array([extent(bitmap) for bitmap in bitmaps]), np.array(bitmaps).astype(np.uint8)


def transformed(seed: int, round_ones: bool, steps: list[Any]) -> dict[str, Any]:
    np.random.seed(seed)
    found = Compose([*steps, ClipBoxes()])(annotated(*shapes(np.random.default_rng(seed), round_ones)))
    assert len(found['gt_masks']) == len(found['gt_bboxes']) == len(found['gt_bboxes_labels'])
    assert found['gt_masks'].masks.shape[1:] == found['img_shape'] == found['img'].shape[:2]
    return found


def distances(found: dict[str, Any], slack: float) -> list[float]:
    """Between the box of every mask and the box beside it; boxes that are hardly there are left out."""
    return [np.abs(extent(mask) - box).max()
            for mask, box in zip(found['gt_masks'].masks, found['gt_bboxes'].numpy(), strict=True)
            if min(box[2] - box[0], box[3] - box[1]) > slack]


@pytest.mark.parametrize('seed', range(25))
def test_the_box_of_the_transformed_mask_is_the_transformed_box(seed: int) -> None:
    """To one pixel, for whatever shape, as long as the image is not made smaller, which leaves out rows."""
    flip = TRANSFORMS.build(dict(type='RandomFlip', prob=0.5))
    found = transformed(seed, True, [flip, ResizeShortSide(short_sides=[130, 150, 191])])
    assert max(distances(found, 1)) <= 1
    # A cut through a round shape may make the box of what is left smaller, so these are rectangles.
    found = transformed(seed, False, [flip, RandomCropRange(30, 90), ResizeShortSide(short_sides=[25, 64, 97, 150])])
    assert max(distances(found, 1), default=0) <= 1


@pytest.mark.parametrize('seed', range(25))
def test_the_crop_augmentation_keeps_boxes_and_masks_together(seed: int) -> None:
    """Resize, crop, resize: the second resize enlarges the pixel by which the first may be off."""
    found = transformed(seed, False, [ResizeShortSide(short_sides=[40, 64, 97]), RandomCropRange(30, 90),
                                      ResizeShortSide(short_sides=[50, 120])])
    slack = 1 + max(found['scale_factor'])
    assert max(distances(found, slack), default=0) <= slack


def test_boxes_and_masks_are_dropped_together() -> None:
    boxes, bitmaps = np.array([[2, 2, 6, 6], [20, 20, 28, 30], [0, 0, 9, 9]]), np.zeros((3, 40, 40), np.uint8)
    bitmaps[0, 2:6, 2:6], bitmaps[1, 20:30, 20:28], bitmaps[2, :9, :9] = 1, 1, 1
    found = annotated(boxes, bitmaps)
    found['gt_bboxes'].translate_((-10, -10))
    found['gt_masks'] = found['gt_masks'].crop(np.array([10, 10, 40, 40]))
    found['img_shape'] = (30, 30)
    found = ClipBoxes()(found)
    assert found['gt_bboxes_labels'].tolist() == [1]
    assert extent(found['gt_masks'].masks[0]) == found['gt_bboxes'].numpy()[0].tolist() == [10, 10, 18, 20]


def coco(segmentations: list[Any]) -> dict[str, Any]:
    return {'images': [{'id': 4, 'file_name': 'b.png', 'width': 10, 'height': 8},
                       {'id': 9, 'file_name': 'a.png', 'width': 10, 'height': 8}],
            'categories': [{'id': 7, 'name': 'cat'}],
            'annotations': [{'id': 30 + index, 'image_id': 9 if index % 2 else 4, 'category_id': 7, 'area': 24,
                             'bbox': [2, 1, 6, 4], 'iscrowd': 0, 'segmentation': segmentation}
                            for index, segmentation in enumerate(segmentations)]}


def dataset(folder: Path, segmentations: list[Any], masks: bool = True) -> CocoDataset:
    for name in ('a.png', 'b.png'):
        Image.new('RGB', (10, 8)).save(folder / name)
    (folder / 'coco.json').write_text(json.dumps(coco(segmentations)))
    steps: list[dict[str, Any]] = [dict(type='LoadRGBImage'), dict(type='LoadAnnotations', with_bbox=True)]
    steps += [dict(type='LoadMasks')] * masks + [dict(type='RandomFlip', prob=1.), dict(type='ClipBoxes'),
                                                 dict(type='PackDetInputs')]
    return CocoDataset(ann_file=str(folder / 'coco.json'), data_prefix={'img': str(folder)}, pipeline=steps,
                       metainfo={'classes': ('cat',)})


@pytest.mark.parametrize('small', [True, False], ids=['in memory', 'mapped'])
def test_from_the_file_to_the_sample(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small: bool) -> None:
    if not small:
        monkeypatch.setattr(column_cache, 'SMALL', 0)
    other = np.zeros((8, 10), np.uint8)
    other[0, 3] = 1
    data = dataset(tmp_path, [[SQUARE], compressed(other), None, [[1, 1, 2]], [SQUARE]])
    assert [len(data.get_data_info(index)['instances']) for index in range(2)] == [1, 2]  # a.png comes first
    first, second = (data[index]['data_samples'].gt_instances for index in range(2))
    assert (first.masks.masks == other[None, :, ::-1]).all()
    assert extent(second.masks.masks[1]) == second.bboxes.numpy()[1].tolist() == [2, 1, 8, 5]
    assert (tmp_path / '.coco.json.masks.columns').exists() != small


def test_segmentations_are_kept_for_masks_only(tmp_path: Path) -> None:
    plain = dataset(tmp_path, [[SQUARE], None], masks=False)
    assert plain._columns.segmentations.size == 0
    assert [len(plain.get_data_info(index)['instances']) for index in range(2)] == [1, 1]
    assert set(plain.get_data_info(1)['instances'][0]) == {'bbox', 'bbox_label', 'ignore_flag'}


def test_a_file_without_masks_is_said_before_training(tmp_path: Path) -> None:
    with pytest.raises(UserError, match='has no masks: no annotation has a segmentation'):
        dataset(tmp_path, [None, []])


def test_a_wrong_segmentation_is_named(tmp_path: Path) -> None:
    data = dataset(tmp_path, [[SQUARE], {'size': [3, 3], 'counts': [9]}])
    with pytest.raises(UserError, match=r'annotation 31 of image .*a\.png: its segmentation has the size \[3, 3\]'):
        data[0]
