"""AP, mMR and recall are those of the authors' CrowdHuman tools; JI follows its definition."""
from __future__ import annotations

import json
import math
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from mmdet.evaluation import CrowdHumanMetric as MMDetCrowdHumanMetric
from mmengine.config import Config
from mmengine.registry import init_default_scope

import sparse_rcnn_mm.registry as registry
from sparse_rcnn_mm.cli.commands import run
from sparse_rcnn_mm.errors import UserError
from sparse_rcnn_mm.evaluation import CrowdHumanMetric
from sparse_rcnn_mm.evaluation.crowd_files import CrowdImage, corners, read_results, read_truth
from sparse_rcnn_mm.evaluation.crowd_scores import CrowdScores, clipped
from sparse_rcnn_mm.evaluation.crowdhuman_metric import crowd_metrics
from sparse_rcnn_mm.evaluation.jaccard_index import THRESHOLDS, jaccard_index
from tests.kit import CONFIGS
from tests.kit.crowdhuman import parsed, unpacked

CASES = ('main', 'ties')
UNANNOTATED = 18  # the image of the dump without any box
SQUARE = [0., 0., 10., 10.]
DETECTION: dict[str, Any] = {'image_id': 1, 'category_id': 1, 'bbox': SQUARE, 'score': 0.5}


@cache
def results() -> dict[str, Any]:
    return parsed('results.json')['cases']


@pytest.fixture(scope='module')
def ann_file(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(unpacked('val.json', tmp_path_factory.mktemp('crowd')))


def images_of(ann_file: str, case: str, folder: Path) -> list[CrowdImage]:
    truth = read_truth(ann_file, '')
    return truth.with_detections(read_results(unpacked(f'dets_{case}.json', folder), truth))


def image(objects: list[list[float]], found: list[tuple[list[float], float]],
          ignored: Sequence[list[float]] = ()) -> CrowdImage:
    """An image of 100 x 100 pixels, its boxes given as x, y, width, height."""
    return CrowdImage((100, 100), corners([*objects, *ignored]), np.arange(len(objects) + len(ignored)) >= len(objects),
                      corners(box for box, _ in found), np.array([score for _, score in found], float))


@pytest.mark.parametrize('case', CASES)
def test_numbers_are_the_authors(case: str, ann_file: str, tmp_path: Path) -> None:
    images, told = images_of(ann_file, case, tmp_path), results()[case]
    for iou_thr, numbers in ((0.5, told), *((iou, told[f'iou{iou}']) for iou in (0.6, 0.75, 0.9))):
        scores = CrowdScores.of(images, iou_thr)
        ours = {'AP': scores.ap, 'mMR': scores.miss_rate, 'Recall': scores.recall}
        worst = max(abs(ours[name] - numbers[name]) for name in ours)
        assert worst < 1e-12, (iou_thr, worst)
    scores = CrowdScores.of(images)
    assert (len(scores.scores), int(scores.correct.sum()), scores.images, scores.objects) == (
        told['n_scorelist'], told['n_tp'], told['imageNum'], told['gtNum'] - told['ignNum'])
    assert scores.fppi[-1] == told['max_fppi']


def test_numbers_by_hand() -> None:
    found = [(SQUARE, 0.9), ([70., 70., 10., 10.], 0.8), ([20., 0., 10., 10.], 0.7)]  # right, wrong, right
    scores = CrowdScores.of([image([SQUARE, [20., 0., 10., 10.]], found)])
    # recall 1/2, 1/2, 1; precision 1, 1/2, 2/3: one trapezoid has a width
    assert scores.ap == pytest.approx((1 / 2 + 2 / 3) / 2 / 2, abs=1e-15)
    assert scores.recall == 1
    assert scores.miss_rate == pytest.approx(1 / 2, abs=1e-15)  # that of the second detection, with one false positive


def test_a_perfect_detector_misses_nothing() -> None:
    scores = CrowdScores.of([image([SQUARE, [20., 0., 10., 10.]], [(SQUARE, 0.9), ([20., 0., 10., 10.], 0.8)])])
    assert (scores.ap, scores.miss_rate, scores.recall) == (0.5, 0, 1)  # the curve starts at the first detection


def test_without_any_detection_everything_is_missed(ann_file: str, tmp_path: Path) -> None:
    (tmp_path / 'none.json').write_text('[]')
    truth = read_truth(ann_file, '')
    images = truth.with_detections(read_results(tmp_path / 'none.json', truth))
    assert crowd_metrics(images) == {'AP': 0, 'mMR': 1, 'recall': 0, 'JI': 0}
    only_ignored = [image([SQUARE], [([50., 50., 9., 9.], 0.9)], ignored=[[40., 40., 40., 40.]])]
    assert crowd_metrics(only_ignored) == {'AP': 0, 'mMR': 1, 'recall': 0, 'JI': 0}


def test_without_any_object_there_is_no_number() -> None:
    for nothing in ([image([], [])], [image([], [], ignored=[SQUARE])], []):
        assert all(math.isnan(value) for value in crowd_metrics(nothing).values())
    found = crowd_metrics([image([], [(SQUARE, 0.5)])])  # JI: one box, no object
    assert found.pop('JI') == 0 and all(math.isnan(value) for value in found.values())


def test_a_detection_on_an_image_without_annotations_is_wrong(ann_file: str, tmp_path: Path) -> None:
    before = images_of(ann_file, 'main', tmp_path)
    wanted = [one for one in before if not one.annotated]
    assert len(wanted) == 1 and len(before) == 41
    for score in (0.01, 0.5, 0.999):
        entries = [*parsed('dets_main.json'), {**DETECTION, 'image_id': UNANNOTATED, 'score': score}]
        (tmp_path / 'more.json').write_text(json.dumps(entries))
        truth = read_truth(ann_file, '')
        after = truth.with_detections(read_results(tmp_path / 'more.json', truth))
        one, other = CrowdScores.of(before), CrowdScores.of(after)
        assert other.images == one.images == 40
        assert (~other.correct).sum() == (~one.correct).sum() + 1
        assert other.recall == one.recall
        assert other.miss_rate >= one.miss_rate
        assert jaccard_index(after)[0] <= jaccard_index(before)[0]


def test_ji_by_hand() -> None:
    found = [(SQUARE, 0.9), ([20., 0., 10., 10.], 0.55), ([55., 55., 10., 10.], 0.8), ([80., 0., 10., 10.], 0.35)]
    first = image([SQUARE, [20., 0., 10., 10.]], found, ignored=[[50., 50., 40., 40.]])
    # above 0.3: 2 matched of 3 boxes (one of 4 is ignored) and 2 objects, 2 / 3; above 0.4: 2 / 2; above 0.6: 1 / 2
    assert jaccard_index([first]) == (1, 0.4)
    missed = image([SQUARE], [])
    assert jaccard_index([first, missed]) == (0.5, 0.4)
    stray = image([], [(SQUARE, 0.45)])  # counts above 0.4, not above 0.5
    assert jaccard_index([first, missed, stray]) == (0.5, 0.5)


def test_ji_takes_the_largest_matching() -> None:
    objects = [SQUARE, [4., 0., 10., 10.]]
    # The better box overlaps both objects by 2 / 3, the other one only the first: greedy matching finds one object.
    both = image(objects, [([2., 0., 10., 10.], 0.9), (SQUARE, 0.85)])
    assert CrowdScores.of([both]).recall == 0.5
    assert jaccard_index([both])[0] == 1


@pytest.mark.parametrize('case', CASES)
def test_ji_is_that_of_mmdet(case: str, ann_file: str, tmp_path: Path) -> None:
    images = [one for one in images_of(ann_file, case, tmp_path) if one.annotated]
    theirs = MMDetCrowdHumanMetric(ann_file, metric='JI')
    records = {str(index): SimpleNamespace(
        gt_boxes=np.column_stack([clipped(one.gt_boxes, one.size), np.where(one.gt_ignored, -1, 1)]),
        dt_boxes=np.column_stack([clipped(one.boxes, one.size), one.scores])) for index, one in enumerate(images)}
    means = []
    for threshold in THRESHOLDS:
        lines: list[dict] = []
        theirs.compute_ji_with_ignore(SimpleNamespace(put_nowait=lines.append), records, threshold)
        means.append(theirs.gather(lines)[1])
    assert jaccard_index(images)[0] == pytest.approx(max(means), abs=1e-6)  # they add 1e-6 to what they divide by


def sample(image_id: int, boxes: list[list[float]], scores: list[float]) -> dict[str, Any]:
    return {'img_id': image_id, 'pred_instances': {
        'bboxes': torch.tensor(boxes).reshape(-1, 4), 'scores': torch.tensor(scores),
        'labels': torch.zeros(len(scores))}}


def test_the_metric_of_configs_gives_the_same(ann_file: str, tmp_path: Path) -> None:
    init_default_scope('sparse_rcnn_mm')
    evaluator = Config.fromfile(CONFIGS / 'sparse_rcnn_r50_500pro_crowdhuman.py').val_evaluator
    metric = registry.METRICS.build({**evaluator, 'ann_file': ann_file, 'outfile_prefix': str(tmp_path / 'out/x')})
    assert type(metric) is CrowdHumanMetric
    metric.dataset_meta = {'classes': ('person',)}
    images = images_of(ann_file, 'main', tmp_path)
    for image_id, one in zip(read_truth(ann_file, '').images, images, strict=True):
        metric.process({}, [sample(image_id, one.boxes.tolist(), one.scores.tolist())])
    found = metric.evaluate(len(images))
    expected = crowd_metrics(images)
    assert set(found) == {f'crowdhuman/{name}' for name in expected}
    for name, value in expected.items():
        assert found[f'crowdhuman/{name}'] == pytest.approx(value, abs=2e-3)  # boxes in float32 here
    truth = read_truth(ann_file, '')
    written = truth.with_detections(read_results(tmp_path / 'out/x.bbox.json', truth))
    assert CrowdScores.of(written).ap == pytest.approx(found['crowdhuman/AP'], abs=1e-9)
    metric.dataset_meta = {'classes': ('person', 'head')}
    with pytest.raises(UserError, match='is for one class, and the data set has 2'):
        metric.compute_metrics([])


def test_the_command_prints_every_digit(ann_file: str, tmp_path: Path, capsys: pytest.CaptureFixture,
                                        monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr('sys.argv', [])
    detections = unpacked('dets_ties.json', tmp_path)
    assert run(['crowd', 'score', str(detections), ann_file, '--out', str(tmp_path / 'numbers.json')]) == 0
    printed = dict(line.split() for line in capsys.readouterr().out.splitlines()[:4])
    told = results()['ties']
    for name, theirs in (('AP', 'AP'), ('mMR', 'mMR'), ('recall', 'Recall')):
        assert abs(float(printed[name]) - told[theirs]) < 1e-12
    numbers = json.loads((tmp_path / 'numbers.json').read_text())
    assert numbers == {name: float(value) for name, value in printed.items()}


@pytest.mark.parametrize(('entries', 'said'), [
    ({}, 'holds no list of detections, but dict'),
    ([7], 'entry 0 of the results file .* is a int, not an object'),
    ([DETECTION, {**DETECTION, 'image_id': '1'}], "entry 1 .* needs a whole number as 'image_id', not '1'"),
    ([{**DETECTION, 'bbox': [1, 2, 3]}], 'entry 0 .* needs .bbox. as'),
    ([{**DETECTION, 'score': float('nan')}], 'entry 0 .* needs a number as .score., not nan'),
    ([{**DETECTION, 'category_id': 2}], r'entry 0 .* has the category_id 2; .* has only 1 \(person\)'),
    ([{**DETECTION, 'image_id': 99}], 'detections on the image 99, which is not in'),
])
def test_wrong_results_are_one_sentence(entries: Any, said: str, ann_file: str, tmp_path: Path) -> None:
    (tmp_path / 'results.json').write_text(json.dumps(entries))
    truth = read_truth(ann_file, '')
    with pytest.raises(UserError, match=said):
        truth.with_detections(read_results(tmp_path / 'results.json', truth))
    (tmp_path / 'results.json').write_text('[')
    with pytest.raises(UserError, match='is not valid JSON'):
        read_results(tmp_path / 'results.json', truth)


def test_annotations_of_several_categories_are_refused(tmp_path: Path) -> None:
    coco = {'images': [{'id': 1, 'file_name': 'a', 'width': 9, 'height': 9}], 'annotations': [],
            'categories': [{'id': 1, 'name': 'person'}, {'id': 2, 'name': 'head'}]}
    (tmp_path / 'two.json').write_text(json.dumps(coco))
    with pytest.raises(UserError, match=r'has 2 categories \(person, head\)'):
        CrowdHumanMetric(str(tmp_path / 'two.json'))
