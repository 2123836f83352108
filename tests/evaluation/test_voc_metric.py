"""VOC's metric against cases worked out by hand, a second implementation, and mmdet's."""
from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from mmdet.evaluation.functional import eval_map

from sparse_rcnn_mm.errors import UserError
from sparse_rcnn_mm.evaluation import PascalVocMetric
from sparse_rcnn_mm.evaluation.voc_scores import ImageOverlaps, voc_scores

SQUARE = [0., 0., 10., 10.]


class Image(NamedTuple):
    """Boxes x1, y1, x2, y2 of one class."""
    objects: np.ndarray  # (G, 4)
    difficult: np.ndarray  # (G,)
    boxes: np.ndarray  # (D, 4)
    scores: np.ndarray  # (D,)


def iou(one: np.ndarray, other: np.ndarray) -> float:
    """Of pixels from 1, the last one included, as the challenge has them: +1 on edges from 0 less 1."""
    one, other = one + [1, 1, 0, 0], other + [1, 1, 0, 0]
    width = min(one[2], other[2]) - max(one[0], other[0]) + 1
    height = min(one[3], other[3]) - max(one[1], other[1]) + 1
    if width <= 0 or height <= 0:
        return 0.
    areas = [(box[2] - box[0] + 1) * (box[3] - box[1] + 1) for box in (one, other)]
    return width * height / (sum(areas) - width * height)


def second_implementation(images: list[Image], threshold: float = 0.5) -> tuple[float, float]:
    """The loops of VOCevaldet.m and VOCap.m, over one list of all detections. Returns AP by area and by 11 points."""
    detections = sorted(((score, image, box) for image, one in enumerate(images)
                         for box, score in zip(one.boxes, one.scores, strict=True)), key=lambda entry: -entry[0])
    detected: set[tuple[int, int]] = set()
    right, wrong = [], []
    for _, image, box in detections:
        best, which = -math.inf, -1
        for index, truth in enumerate(images[image].objects):
            if (overlap := iou(box, truth)) > best:
                best, which = overlap, index
        hit = best >= threshold
        difficult = hit and images[image].difficult[which]
        first = hit and (image, which) not in detected
        right.append(int(hit and first and not difficult))
        wrong.append(int(not difficult and not (hit and first)))
        if hit and not difficult:
            detected.add((image, which))
    positives = sum(int((~one.difficult).sum()) for one in images)
    if not positives:
        return math.nan, math.nan
    recall, precision = [], []
    for index in range(len(right)):
        tp, fp = sum(right[:index + 1]), sum(wrong[:index + 1])
        if tp + fp:
            recall.append(tp / positives)
            precision.append(tp / (tp + fp))
    eleven = sum(max((p for r, p in zip(recall, precision, strict=True) if r >= tenths / 10 - 1e-12), default=0.)
                 for tenths in range(11)) / 11
    r, p = [0., *recall, 1.], [0., *precision, 0.]
    for index in range(len(p) - 2, -1, -1):
        p[index] = max(p[index], p[index + 1])
    return sum((r[i + 1] - r[i]) * p[i + 1] for i in range(len(r) - 1)), eleven


def random_images(seed: int) -> list[Image]:
    rng = np.random.default_rng(seed)
    images = []
    for _ in range(rng.integers(1, 9)):
        corner = rng.uniform(0, 60, (rng.integers(0, 6), 2))
        objects = np.concatenate([corner, corner + rng.uniform(10, 40, corner.shape)], 1)
        near = objects[rng.integers(0, len(objects), rng.integers(0, 9))] if len(objects) else objects
        far = rng.uniform(0, 50, (rng.integers(0, 3), 4)) + [0, 0, 50, 50]
        boxes = np.concatenate([near + rng.normal(0, 4, near.shape), far])
        images.append(Image(objects, rng.random(len(objects)) < 0.25, boxes, rng.random(len(boxes)).round(3)))
    return images


def overlaps_of(image: Image) -> ImageOverlaps:
    overlaps = np.array([[iou(box, truth) for truth in image.objects] for box in image.boxes])
    return ImageOverlaps(image.scores, overlaps.reshape(len(image.boxes), len(image.objects)), image.difficult)


@pytest.mark.parametrize('seed', range(60))
def test_numbers_are_those_of_the_second_implementation(seed: int) -> None:
    images = random_images(seed)
    for threshold in (0.3, 0.5, 0.75):
        found = voc_scores([overlaps_of(image) for image in images], threshold)
        expected = second_implementation(images, threshold)
        assert found[:2] == pytest.approx(expected, abs=1e-12, nan_ok=True)


@pytest.mark.parametrize('seed', range(8))
def test_numbers_are_mmdets(seed: int) -> None:
    images = random_images(seed + 100)
    truths = [dict(bboxes=one.objects[~one.difficult], labels=np.zeros((~one.difficult).sum(), int),
                   bboxes_ignore=one.objects[one.difficult], labels_ignore=np.zeros(one.difficult.sum(), int))
              for one in images]
    boxes = [[np.column_stack([one.boxes, one.scores]).astype(np.float32)] for one in images]
    found = voc_scores([overlaps_of(image) for image in images])
    for mode, value in (('area', found.area), ('11points', found.eleven_points)):
        theirs, _ = eval_map(boxes, truths, eval_mode=mode, logger='silent', nproc=1)
        # Their 0.3, 0.6 and 0.7 are larger by a rounding error, so three of five objects do not reach 0.6.
        if mode == 'area' or found.objects % 5:
            assert value == pytest.approx(theirs, abs=1e-6)


def one(objects: list, boxes: list, scores: list, difficult: list | None = None) -> Image:
    return Image(np.array(objects, float).reshape(-1, 4), np.array(difficult or [False] * len(objects), bool),
                 np.array(boxes, float).reshape(-1, 4), np.array(scores, float))


@pytest.mark.parametrize(('image', 'area', 'eleven'), [
    # right, wrong, right of two: precision 1, 1/2, 2/3 at recall 1/2, 1/2, 1
    (one([SQUARE, [20, 0, 30, 10]], [SQUARE, [70, 70, 80, 80], [20, 0, 30, 10]], [.9, .8, .7]),
     (1 + 2 / 3) / 2, (6 * 1 + 5 * 2 / 3) / 11),
    # the second detection of an object is wrong
    (one([SQUARE], [SQUARE, SQUARE], [.9, .8]), 1, 1),
    (one([SQUARE, [20, 0, 30, 10]], [SQUARE, SQUARE, [20, 0, 30, 10]], [.9, .8, .7]),
     (1 + 2 / 3) / 2, (6 * 1 + 5 * 2 / 3) / 11),
    # a difficult object: its detections do not count, however many, and it is not missed
    (one([SQUARE, [20, 0, 30, 10]], [SQUARE, SQUARE, [20, 0, 30, 10]], [.9, .8, .7], [True, False]), 1, 1),
    # nothing found; only a difficult object; IoU of exactly a half
    (one([SQUARE], [], []), 0, 0),
    (one([SQUARE], [SQUARE], [.9], [True]), math.nan, math.nan),
    (one([SQUARE], [[0, 0, 10, 5]], [.9]), 1, 1),
    (one([SQUARE], [[0, 0, 10, 4.9]], [.9]), 0, 0),
    # Its best object is taken, so the detection is wrong, though it overlaps the other one by more than half.
    (one([SQUARE, [2, 0, 12, 10]], [SQUARE, [.5, 0, 10.5, 10]], [.9, .8]), 1 / 2, 6 / 11),
])
def test_numbers_by_hand(image: Image, area: float, eleven: float) -> None:
    found = voc_scores([overlaps_of(image)])
    assert found[:2] == pytest.approx((area, eleven), abs=1e-12, nan_ok=True)
    assert second_implementation([image]) == pytest.approx((area, eleven), abs=1e-12, nan_ok=True)


def test_a_recall_of_three_tenths_is_reached_by_three_of_ten() -> None:
    """As floats, 3 / 10 is less than the fourth of 0, 0.1, 0.2, ... by addition."""
    objects = [[20 * place, 0, 20 * place + 10, 10] for place in range(10)]
    found = voc_scores([overlaps_of(one(objects, objects[:3], [.9, .8, .7]))])
    assert found.eleven_points == pytest.approx(4 / 11, abs=1e-15)
    assert found.area == pytest.approx(3 / 10, abs=1e-15)


def test_ties_keep_the_order_of_images() -> None:
    images = [overlaps_of(one([SQUARE], [[70, 70, 80, 80]], [.5])), overlaps_of(one([SQUARE], [SQUARE], [.5]))]
    assert voc_scores(images).area == 1 / 4  # wrong, right
    assert voc_scores(images[::-1]).area == 1 / 2


MASK = [[0, 0, 10, 0, 10, 10, 0, 10]]
TRUTH: dict[str, Any] = {
    'images': [{'id': 7, 'file_name': 'a', 'width': 40, 'height': 30}, {'id': 9, 'file_name': 'b', 'width': 40,
                                                                        'height': 30}],
    'categories': [{'id': 3, 'name': 'cat'}, {'id': 1, 'name': 'dog'}],
    'annotations': [
        {'id': 1, 'image_id': 7, 'category_id': 1, 'bbox': [0, 0, 10, 10], 'area': 100, 'iscrowd': 0,
         'segmentation': MASK},
        {'id': 2, 'image_id': 7, 'category_id': 3, 'bbox': [20, 0, 10, 10], 'area': 100, 'iscrowd': 1,
         'segmentation': [[20, 0, 30, 0, 30, 10, 20, 10]]},
        {'id': 3, 'image_id': 9, 'category_id': 3, 'bbox': [0, 0, 10, 10], 'area': 100, 'iscrowd': 0,
         'segmentation': [[0, 0, 10, 10]]}]}


def metric_of(folder: Path, kind: Any) -> PascalVocMetric:
    (folder / 'truth.json').write_text(json.dumps(TRUTH))
    metric = PascalVocMetric(str(folder / 'truth.json'), metric=kind)
    metric.dataset_meta = {'classes': ('dog', 'cat')}
    return metric


def prediction(image_id: int, boxes: list, labels: list, mask_boxes: list | None = None) -> dict[str, Any]:
    masks = torch.zeros(len(boxes), 30, 40, dtype=torch.bool)
    for mask, (x1, y1, x2, y2) in zip(masks, mask_boxes or boxes, strict=True):
        mask[int(y1):int(y2), int(x1):int(x2)] = True
    return {'img_id': image_id, 'pred_instances': {
        'bboxes': torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4), 'labels': torch.tensor(labels),
        'scores': torch.linspace(0.9, 0.5, len(boxes)), 'masks': masks}}


def test_classes_crowds_and_masks(tmp_path: Path) -> None:
    metric = metric_of(tmp_path, ['bbox', 'segm'])
    # The dog's mask covers 4 of 10 columns only; the cat in the first image is difficult, and in the second its mask
    # is a line, which is none: only its box counts.
    metric.process({}, [prediction(7, [SQUARE, [20, 0, 30, 10]], [0, 1], [[0, 0, 4, 10], [20, 0, 30, 10]]),
                        prediction(9, [SQUARE], [1])])
    found = metric.evaluate(2)
    assert found.pop('voc/bbox_AP50') == found.pop('voc/bbox_AP50_11points') == 1
    assert found == {'voc/segm_AP50': 0, 'voc/segm_AP50_11points': 0}
    metric.process({}, [prediction(7, [SQUARE], [0], [[0, 0, 5, 10]]), prediction(9, [], [])])
    found = metric.evaluate(2)
    # cats: none of one found by box; of masks there is none
    assert (found['voc/bbox_AP50'], found['voc/segm_AP50']) == (0.5, 1)


@pytest.mark.parametrize('mask', [{'size': [30, 40], 'counts': 'oooo'}, {'size': [40, 30], 'counts': [1200]},
                                  {'size': [30, 40], 'counts': [1201]}, {'size': [30, 40], 'counts': [1300, -100]}])
def test_wrong_masks_are_refused_before_training(tmp_path: Path, mask: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TRUTH['annotations'][1], 'segmentation', mask)
    with pytest.raises(UserError, match=r'truth\.json: annotation 2: its segmentation has'):
        metric_of(tmp_path, 'segm')
    metric_of(tmp_path, 'bbox')


def test_boxes_of_random_images_through_the_metric(tmp_path: Path) -> None:
    images = random_images(7)
    coco: dict[str, list] = {'images': [], 'annotations': [], 'categories': [{'id': 1, 'name': 'dog'}]}
    for index, image in enumerate(images):
        coco['images'].append({'id': index, 'file_name': f'{index}', 'width': 200, 'height': 200})
        for (x1, y1, x2, y2), difficult in zip(image.objects, image.difficult, strict=True):
            coco['annotations'].append({'id': len(coco['annotations']) + 1, 'image_id': index, 'category_id': 1,
                                        'bbox': [x1, y1, x2 - x1, y2 - y1], 'iscrowd': int(difficult)})
    (tmp_path / 'truth.json').write_text(json.dumps(coco))
    metric = PascalVocMetric(str(tmp_path / 'truth.json'))
    metric.dataset_meta = {'classes': ('dog',)}
    for index, image in enumerate(images):
        metric.process({}, [{'img_id': index, 'pred_instances': {
            'bboxes': torch.tensor(image.boxes), 'scores': torch.tensor(image.scores),
            'labels': torch.zeros(len(image.scores), dtype=torch.long)}}])
    found = metric.evaluate(len(images))
    assert tuple(found.values()) == pytest.approx(second_implementation(images), abs=1e-9)


def test_what_does_not_fit_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="must be 'bbox', 'segm' or a list of both, not 'box'"):
        PascalVocMetric('x.json', metric='box')
    metric = metric_of(tmp_path, ['bbox', 'segm'])
    sample = prediction(7, [SQUARE], [0])
    del sample['pred_instances']['masks']
    with pytest.raises(UserError, match="the model predicts no masks: set metric='bbox'"):
        metric.process({}, [sample])
    metric.process({}, [prediction(8, [SQUARE], [0])])
    with pytest.raises(UserError, match='has no image with the id 8'):
        metric.evaluate(1)
    metric.dataset_meta = {'classes': ('dog', 'emu')}
    with pytest.raises(UserError, match="has no category 'emu'"):
        metric.evaluate(0)
