"""The COCO metric: classes matched by name whatever their order, and mistakes said in one sentence."""
from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import sparse_rcnn_mm.registry as registry
from sparse_rcnn_mm.errors import UserError
from sparse_rcnn_mm.evaluation import CocoMetric

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
