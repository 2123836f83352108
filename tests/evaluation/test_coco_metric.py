"""The COCO metric: classes matched by name whatever their order, and mistakes said in one sentence."""
from __future__ import annotations

import copy
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmdet.datasets.api_wrappers import COCO, COCOeval
from mmdet.evaluation import CocoMetric as MMDetCocoMetric

import sparse_rcnn_mm.registry as registry
from sparse_rcnn_mm.datasets.column_cache import read_columns
from sparse_rcnn_mm.datasets.masks import decode_segmentation, encode_segmentation
from sparse_rcnn_mm.errors import UserError
from sparse_rcnn_mm.evaluation import CocoMetric, FasterCocoMetric
from sparse_rcnn_mm.evaluation.coco_api import coco_api

# File order, id order and name order all differ.
CATEGORIES = [{'id': 9, 'name': 'dog'}, {'id': 2, 'name': 'fox'}, {'id': 5, 'name': 'cat'}]
BOXES = {'dog': [0, 0, 40, 40], 'fox': [50, 0, 40, 40], 'cat': [0, 50, 40, 40]}
# What each class's detection is shifted by: IoU 1 for dogs, 36/44 = 0.82 for foxes, 20/60 for cats.
SHIFTS = {'dog': 0, 'fox': 4, 'cat': 20}


@pytest.fixture
def ann_file(tmp_path: Path) -> str:
    ids = {category['name']: category['id'] for category in CATEGORIES}
    annotations = [{'id': index + 1, 'image_id': 3, 'category_id': ids[name], 'bbox': box, 'area': 1600, 'iscrowd': 0}
                   for index, (name, box) in enumerate(BOXES.items())]
    path = tmp_path / 'coco.json'
    path.write_text(json.dumps({'images': [{'id': 3, 'file_name': 'a.jpg', 'width': 100, 'height': 100}],
                                'annotations': annotations, 'categories': CATEGORIES}))
    return str(path)


def _sample(classes: tuple[str, ...], image_id: int = 3) -> dict[str, Any]:
    boxes = []
    for name in classes:
        x, y, w, h = BOXES[name]
        boxes.append([x + SHIFTS[name], y, x + SHIFTS[name] + w, y + h])
    return {'img_id': image_id, 'ori_shape': (100, 100), 'pred_instances': {
        'bboxes': torch.tensor(boxes, dtype=torch.float32), 'scores': torch.full((len(classes),), 0.9),
        'labels': torch.arange(len(classes))}}


@pytest.mark.parametrize('classes', [('dog', 'fox', 'cat'), ('cat', 'dog', 'fox'), ('fox', 'cat', 'dog')])
def test_labels_are_matched_by_name(ann_file: str, classes: tuple[str, ...], tmp_path: Path) -> None:
    metric = CocoMetric(ann_file, classwise=True, outfile_prefix=str(tmp_path / 'out'))
    metric.dataset_meta = {'classes': classes}
    metric.process({}, [_sample(classes)])
    measured = metric.evaluate(1)
    # IoU 0.82 counts at the 7 thresholds 0.5 to 0.8 of 10, in exact COCO interpolation
    assert measured['coco/dog_precision'] == 1.0
    assert measured['coco/fox_precision'] == 0.7
    assert measured['coco/cat_precision'] == 0.0
    assert measured['coco/bbox_mAP'] == pytest.approx(np.mean([1, 0.7, 0]), abs=5e-4)
    ids = {category['name']: category['id'] for category in CATEGORIES}
    assert [found['category_id'] for found in json.loads((tmp_path / 'out.bbox.json').read_text())] == [
        ids[name] for name in classes]


def test_some_of_the_classes(ann_file: str) -> None:
    metric = CocoMetric(ann_file)
    metric.dataset_meta = {'classes': ('fox', 'dog')}
    metric.process({}, [_sample(('fox', 'dog'))])
    assert metric.evaluate(1)['coco/bbox_mAP'] == 0.85


def test_it_is_the_one_that_configs_get(ann_file: str) -> None:
    assert registry.METRICS.get('CocoMetric') is CocoMetric


def test_a_missing_file_is_said_when_the_metric_is_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=rf'annotation file not found: {tmp_path}/data/val\.json; set --cfg-options '
                                        r'val_evaluator\.ann_file=FILE') as caught:
        CocoMetric('data/val.json')
    assert '\n' not in str(caught.value)


def test_another_data_set_is_said(ann_file: str) -> None:
    metric = CocoMetric(ann_file)
    with pytest.raises(UserError, match=rf"{ann_file} has no category 'cow'"):
        metric.dataset_meta = {'classes': ('cat', 'cow')}
    metric.dataset_meta = {'classes': ('cat',)}
    with pytest.raises(UserError, match=rf'{ann_file} has no image with the id 8'):
        metric.process({}, [_sample(('cat',), image_id=8)])


def test_an_unknown_option_is_refused(ann_file: str) -> None:
    with pytest.raises(TypeError, match='no_such_option'):
        CocoMetric(ann_file, no_such_option=1)


def _random_file(path: Path, images: int = 40, boxes: int = 400, classes: int = 5) -> dict:
    """Boxes of all sizes, some of them crowds, with images and annotations in no order."""
    rng = np.random.RandomState(0)
    corners, sides = rng.uniform(0, 300, (boxes, 2)), rng.choice([10, 50, 200], (boxes, 1)) * rng.rand(boxes, 2)
    coco = {
        'images': [{'id': int(number), 'file_name': f'{rng.rand()}.jpg', 'width': 500, 'height': 500}
                   for number in rng.permutation(images) + 3],
        'categories': [{'id': int(number), 'name': f'class {number}'} for number in rng.permutation(classes) + 1],
        'annotations': [{
            'id': int(index) + 1, 'image_id': int(rng.randint(3, images + 3)),
            'category_id': int(rng.randint(classes) + 1),
            'bbox': [*corners[index], *sides[index]], 'area': float(sides[index].prod()) * 0.7,
            'iscrowd': int(rng.rand() < 0.1)} for index in rng.permutation(boxes)]}
    path.write_text(json.dumps(coco))
    return coco


def _random_samples(coco: dict, extra: int = 20) -> list[dict[str, Any]]:
    """Every box, moved a little and some with another label, and others; scores with ties."""
    rng = np.random.RandomState(1)
    names = [category['name'] for category in coco['categories']]
    name_of = {category['id']: category['name'] for category in coco['categories']}
    samples = []
    for image in coco['images']:
        entries = [entry for entry in coco['annotations'] if entry['image_id'] == image['id']]
        boxes = np.array([entry['bbox'] for entry in entries]).reshape(-1, 4)
        boxes = boxes + rng.normal(0, 0.08, boxes.shape) * boxes[:, [2, 3, 2, 3]]
        boxes = np.concatenate([boxes, rng.uniform(1, 300, (extra, 4))])
        boxes[:, 2:] += boxes[:, :2]
        labels = [names.index(name_of[entry['category_id']]) for entry in entries]
        labels = np.where(rng.rand(len(boxes)) < 0.8, [*labels, *rng.randint(len(names), size=extra)], 0)
        samples.append({'img_id': image['id'], 'ori_shape': (500, 500), 'pred_instances': {
            'bboxes': torch.tensor(boxes), 'scores': torch.tensor(rng.randint(1, 30, len(boxes)) / 30),
            'labels': torch.tensor(labels)}})
    return samples


def _measured(metric: MMDetCocoMetric, names: list[str], samples: list[dict]) -> dict[str, float]:
    metric.dataset_meta = {'classes': tuple(names)}
    for sample in samples:
        metric.process({}, [sample])
    return metric.evaluate(len(samples))


def test_ground_truth_from_columns_measures_as_mmdet_does(tmp_path: Path) -> None:
    coco = _random_file(tmp_path / 'coco.json')
    samples = _random_samples(coco)
    options = dict(metric=['bbox', 'proposal'])
    names = [category['name'] for category in coco['categories']]
    ours = CocoMetric(str(tmp_path / 'coco.json'), **options)
    expected = _measured(MMDetCocoMetric(str(tmp_path / 'coco.json'), **options), names, samples)
    assert len(expected) == 12 and 0.1 < expected['coco/bbox_mAP'] < 0.9
    for _ in range(2):  # a second validation starts from nothing
        measured = _measured(ours, names, samples)
        assert measured == pytest.approx(expected, abs=1e-12, nan_ok=True)
    assert ours._coco_api is ours._columns  # the index is not kept


def test_the_index_from_columns_is_that_of_the_file(tmp_path: Path) -> None:
    coco = _random_file(tmp_path / 'coco.json')
    ours = coco_api(read_columns(str(tmp_path / 'coco.json'), True, ''))
    theirs = COCO(str(tmp_path / 'coco.json'))
    assert {key: {name: entry[name] for name in theirs.anns[key]} for key, entry in ours.anns.items()} == theirs.anns
    assert {key: [entry['id'] for entry in value] for key, value in ours.imgToAnns.items()} == {
        key: [entry['id'] for entry in value] for key, value in theirs.imgToAnns.items()}
    assert ours.imgs == theirs.imgs and ours.cats == theirs.cats
    assert ours.get_ann_ids([3]) == theirs.get_ann_ids([3])
    assert len(coco['annotations']) == len(ours.anns)


def test_faster_coco_eval_gives_the_same_numbers(tmp_path: Path) -> None:
    """Every precision and recall, not only the means that mmdet rounds."""
    faster = pytest.importorskip('faster_coco_eval')
    coco = _random_file(tmp_path / 'coco.json')
    samples = _random_samples(coco)
    names = [category['name'] for category in coco['categories']]
    kept: dict[str, Any] = {}

    class Kept(CocoMetric):
        def results2json(self, results: Any, prefix: str) -> dict:
            files = super().results2json(results, prefix)
            kept['found'] = json.loads(Path(files['bbox']).read_text())
            return files

    plain = _measured(Kept(str(tmp_path / 'coco.json'), classwise=True), names, samples)
    quick = _measured(FasterCocoMetric(str(tmp_path / 'coco.json'), classwise=True), names, samples)
    assert quick == pytest.approx(plain, abs=1e-12, nan_ok=True)
    columns, evaluations = read_columns(str(tmp_path / 'coco.json'), True, ''), []
    for kind in (COCOeval, faster.COCOeval_faster):
        truth = coco_api(columns)
        evaluation = kind(truth, truth.loadRes(copy.deepcopy(kept['found'])), 'bbox')
        evaluation.params.maxDets = [100, 300, 1000]
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
        evaluations.append(evaluation)
    for name in ('precision', 'recall', 'scores'):
        np.testing.assert_allclose(evaluations[1].eval[name], evaluations[0].eval[name], rtol=0, atol=1e-12)
    np.testing.assert_allclose(evaluations[1].stats[:12], evaluations[0].stats, rtol=0, atol=1e-12)


def _masked_file(path: Path) -> dict:
    """Ellipses as polygons, numbers and text, a few of them crowds; the boxes of the last class have no mask."""
    coco = _random_file(path, images=16, boxes=160)
    last = coco['categories'][-1]['id']
    for number, entry in enumerate(coco['annotations']):
        x, y, width, height = entry['bbox']
        angles = np.linspace(0, 2 * np.pi, 20, endpoint=False)
        points = np.stack([x + (1 + np.cos(angles)) * width / 2, y + (1 + np.sin(angles)) * height / 2], 1)
        polygons = [points.round(2).ravel().tolist(), [1, 2, 3, 4, 5]]  # the second is none, as in training
        text = encode_segmentation(polygons, 500, 500)
        column_major = decode_segmentation(text, 500, 500).T.ravel()
        changes = [0, *np.flatnonzero(np.diff(column_major)) + 1, 500 * 500]
        numbers = {'size': [500, 500], 'counts': np.diff(changes).tolist()}
        entry['segmentation'] = [polygons, text, numbers if not column_major[0] else text][number % 3]
        if entry['category_id'] == last:
            entry['segmentation'] = [None, [], [[1, 2, 3, 4]]][number % 3]
    path.write_text(json.dumps(coco))
    return coco


def _with_masks(samples: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A filled box as the mask of each detection."""
    for sample in samples:
        boxes = sample['pred_instances']['bboxes'].round().int().tolist()
        masks = torch.zeros(len(boxes), 500, 500, dtype=torch.bool)
        for mask, (x1, y1, x2, y2) in zip(masks, boxes, strict=True):
            mask[max(y1, 0):y2, max(x1, 0):x2] = True
        sample['pred_instances']['masks'] = masks
    return samples


@pytest.mark.parametrize('kind', [CocoMetric, FasterCocoMetric])
def test_masks_measure_as_mmdet_does(tmp_path: Path, kind: type[CocoMetric], monkeypatch: pytest.MonkeyPatch) -> None:
    if kind is FasterCocoMetric:
        pytest.importorskip('faster_coco_eval')
    coco = _masked_file(tmp_path / 'coco.json')
    samples = _with_masks(_random_samples(coco, extra=3))
    names = [category['name'] for category in coco['categories']]
    path, options = str(tmp_path / 'coco.json'), dict(metric=['bbox', 'segm'])
    ours = _measured(kind(path, **options), names, samples)
    ignored = 0
    for entry in coco['annotations']:  # what pycocotools fails at is a crowd that covers the box
        x, y, width, height = entry['bbox']
        if isinstance(entry['segmentation'], list) and len(entry['segmentation']) == 2:
            entry['segmentation'].pop()
        elif not isinstance(entry['segmentation'], dict):
            entry.update(iscrowd=1, segmentation=[[x, y, x + width, y, x + width, y + height, x, y + height]])
            ignored += 1
    assert ignored > 10
    Path(path).write_text(json.dumps(coco))
    expected = _measured(MMDetCocoMetric(path, **options), names, samples)
    assert ours == pytest.approx(expected, abs=1e-12, nan_ok=True)
    assert len(ours) == 12 and 0.03 < ours['coco/segm_mAP'] < 0.9


WRONG_MASKS = [{'size': [100, 100], 'counts': [5, 10**9]}, {'size': [9**9, 9**9], 'counts': [9**18]},
               {'size': [100, 100], 'counts': [10100, -100]}, {'size': [100, 100], 'counts': 'oooo'},
               {'size': [50, 50], 'counts': [2500]}, {'size': [100, 100], 'counts': 'no RLE'}, 'text', [['a'] * 6],
               {'counts': [10**4]}, {'size': [100, 100], 'counts': None}, [[1e300] * 6], [1, 2, 3, 4, 5, 6]]


@pytest.mark.parametrize('mask', WRONG_MASKS)
def test_wrong_masks_are_refused_before_training(ann_file: str, mask: Any) -> None:
    """pycocotools and faster-coco-eval read and write beyond their memory."""
    coco = json.loads(Path(ann_file).read_text())
    for entry in coco['annotations']:
        entry['segmentation'] = [[1, 1, 9, 1, 9, 9]]
    coco['annotations'][1]['segmentation'] = mask
    Path(ann_file).write_text(json.dumps(coco))
    with pytest.raises(UserError, match=rf'{ann_file}: annotation 2 of image a\.jpg: its segmentation (is|has) '):
        CocoMetric(ann_file, metric=['bbox', 'segm'])
    CocoMetric(ann_file)  # boxes do not need them


@pytest.mark.parametrize('mask', WRONG_MASKS)
def test_wrong_masks_of_samples_are_refused(mask: Any) -> None:
    """Without a file, the ground truth comes from the samples."""
    metric = CocoMetric(metric='segm')
    metric.dataset_meta = {'classes': ('dog', 'fox', 'cat')}
    sample = _sample(('dog', 'fox', 'cat'))
    sample['pred_instances']['masks'] = torch.zeros(3, 100, 100, dtype=torch.bool)
    sample['pred_instances']['masks'][:, :40, :40] = True
    polygon = [[0, 0, 40, 0, 40, 40, 0, 40]]
    for wanted, segmentation in ((1, polygon), (None, mask)):
        sample['instances'] = [{'bbox': [0, 0, 40, 40], 'bbox_label': label, 'ignore_flag': 0, **given}
                               for label, given in enumerate(({'mask': polygon}, {'mask': segmentation}, {}))]
        metric._coco_api = None
        metric.process({}, [sample])
        if wanted:
            assert metric.evaluate(1)['coco/segm_mAP'] == wanted  # the box without a mask does not count
            continue
        with pytest.raises(UserError, match='annotation 2 of image 3: its segmentation (is|has) '):
            metric.evaluate(1)


def test_faster_coco_eval_is_asked_for_where_it_is_missing(ann_file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, 'faster_coco_eval', None)
    with pytest.raises(UserError, match='pip install faster-coco-eval, or use CocoMetric'):
        FasterCocoMetric(ann_file)
    assert registry.METRICS.get('FasterCocoMetric') is FasterCocoMetric
