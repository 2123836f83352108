"""Kinds of errors, their cost, confusion, calibration and AP: by hand, against pycocotools, and at the edges."""
from __future__ import annotations

import contextlib
import io
import json
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from sparse_rcnn_mm.cli.analyze import summary
from sparse_rcnn_mm.errors import UserError
from sparse_rcnn_mm.evaluation.analysis import Analysis, as_numbers
from sparse_rcnn_mm.evaluation.average_precision import average_precision
from sparse_rcnn_mm.evaluation.error_analysis import confusion, count_errors, error_costs
from sparse_rcnn_mm.evaluation.matching import Kind, match
from sparse_rcnn_mm.evaluation.page import write_document, write_page
from sparse_rcnn_mm.evaluation.records import EvaluatedData, ImageRecord, evaluated_data, read_predictions, write_json
from sparse_rcnn_mm.evaluation.scores import Scores

Box = tuple[float, float, float, float]
# an object at the origin; and one of another class far away
HERE: Box = (0, 0, 100, 100)
THERE: Box = (300, 300, 400, 400)


def record(found: Sequence[tuple[Box, float, int]], truth: Sequence[tuple[Box, int]], crowd: Sequence[bool] = (),
           image_id: int = 1, path: str = '') -> ImageRecord:
    found = sorted(found, key=lambda item: -item[1])
    return ImageRecord(
        image_id, path, np.array([box for box, _, _ in found], float).reshape(-1, 4),
        np.array([score for _, score, _ in found], float), np.array([label for *_, label in found], int),
        np.array([box for box, _ in truth], float).reshape(-1, 4), np.array([label for _, label in truth], int),
        np.array(crowd or [False] * len(truth), bool))


def data_of(records: list[ImageRecord], classes: tuple[str, ...] = ('a', 'b', 'c'),
           cat_ids: tuple[int, ...] = (7, 2, 5)) -> EvaluatedData:
    """The category ids are in another order than the labels."""
    annotations = []
    for one in records:
        for (x1, y1, x2, y2), label, crowd in zip(one.gt_boxes.tolist(), one.gt_labels, one.gt_ignored, strict=True):
            annotations.append({'id': len(annotations) + 1, 'image_id': one.image_id, 'category_id': cat_ids[label],
                                'bbox': [x1, y1, x2 - x1, y2 - y1], 'area': (x2 - x1) * (y2 - y1),
                                'iscrowd': int(crowd)})
    coco = {'images': [{'id': one.image_id, 'width': 500, 'height': 500} for one in records],
            'categories': [{'id': i, 'name': name} for i, name in zip(cat_ids, classes, strict=True)],
            'annotations': annotations}
    return EvaluatedData(classes, cat_ids, coco, records)


def random_data(seed: int = 0, images: int = 12) -> EvaluatedData:
    """Shifted copies of the truth, some of another class, some twice, some alone; and crowds."""
    rng = np.random.default_rng(seed)
    records = []
    for image_id in range(1, images + 1):
        corners = rng.uniform(0, 400, (6, 2))
        truth = [((x, y, x + w, y + h), int(rng.integers(3)))
                 for (x, y), (w, h) in zip(corners, rng.uniform(8, 100, (6, 2)), strict=True)]
        found = []
        for (x1, y1, x2, y2), label in [*truth, *truth[:3], ((9., 9., 60., 60.), 1)]:
            dx, dy = rng.normal(0, 0.2, 2) * (x2 - x1, y2 - y1)
            found.append(((x1 + dx, y1 + dy, x2 + dx, y2 + dy), float(rng.uniform()),
                          label if rng.uniform() < 0.8 else int(rng.integers(3))))
        records.append(record(found, truth, [False] * 5 + [True], image_id))
    return data_of(records)


@pytest.mark.parametrize(('box', 'label', 'kind', 'missed'), [
    (HERE, 0, Kind.CORRECT, False),
    ((50, 0, 150, 100), 0, Kind.LOCATION, False),  # IoU 5000 / 15000 = 0.33
    (HERE, 1, Kind.CLASS, False),
    ((50, 0, 150, 100), 1, Kind.BOTH, True),
    ((90, 0, 190, 100), 0, Kind.BACKGROUND, True),  # IoU 1000 / 19000 = 0.05
    ((200, 0, 250, 50), 0, Kind.BACKGROUND, True),
])
def test_each_kind_by_hand(box: Box, label: int, kind: Kind, missed: bool) -> None:
    matched = match(record([(box, 0.9, label)], [(HERE, 0)]))
    assert matched.kinds.tolist() == [kind]
    assert matched.missed.tolist() == [missed]
    assert matched.found.tolist() == [kind == Kind.CORRECT]


def test_a_second_detection_of_an_object_is_a_duplicate() -> None:
    """The surer one is right although the other overlaps more."""
    matched = match(record([(HERE, 0.6, 0), ((10, 0, 110, 100), 0.8, 0)], [(HERE, 0)]))
    assert matched.kinds.tolist() == [Kind.CORRECT, Kind.DUPLICATE]
    assert matched.gt.tolist() == [0, 0]


def test_detections_in_a_crowd_do_not_count() -> None:
    one = record([((20, 20, 40, 40), 0.9, 0), ((20, 20, 40, 40), 0.8, 1)], [(HERE, 0)], crowd=[True])
    matched = match(one)
    assert matched.kinds.tolist() == [Kind.IGNORED, Kind.BACKGROUND]
    assert matched.missed.tolist() == [False]
    assert Scores.of([one], [matched]).scores.tolist() == [0.8]


def test_counts_and_confusion_by_hand() -> None:
    """A class error is found as another class; a bad place is background, and its object is not found."""
    records = [record([(HERE, 0.9, 0), (THERE, 0.8, 2), ((200, 0, 250, 50), 0.7, 1)], [(HERE, 0), (THERE, 1)]),
               record([((50, 0, 150, 100), 0.9, 0)], [(HERE, 0), (THERE, 2)], image_id=2)]
    data, matches = data_of(records), [match(one) for one in records]
    # ground truths, correct, class, location, both, duplicate, background, missed
    assert count_errors(data, records, matches).tolist() == [[2, 1, 0, 1, 0, 0, 0, 0], [1, 0, 0, 0, 0, 0, 1, 0],
                                                             [1, 0, 1, 0, 0, 0, 0, 1]]
    assert confusion(data, records, matches).tolist() == [[1, 0, 0, 1], [0, 0, 1, 0], [0, 0, 0, 1], [1, 1, 0, 0]]


@pytest.mark.parametrize(('found', 'costs'), [
    ([(HERE, 0.9, 0)], {}),
    # a wrong detection before the right one halves the precision everywhere
    ([((200, 0, 250, 50), 0.9, 0), (HERE, 0.5, 0)], {'background': 0.5}),
    ([(HERE, 0.9, 0), (HERE, 0.95, 0)], {}),  # the duplicate is the worse one, after all is found
    ([((50, 0, 150, 100), 0.9, 0)], {'location': 1.0}),
    ([], {}),  # without the object there is no class left to take the mean of
])
def test_costs_by_hand(found: list[tuple[Box, float, int]], costs: dict[str, float]) -> None:
    data = data_of([record(found, [(HERE, 0)])])
    now, gained = error_costs(data, [match(one) for one in data.records])
    assert now == pytest.approx(average_precision(data).overall['AP50'])
    for kind, gain in gained.items():
        if kind != 'missed':
            assert gain == pytest.approx(costs.get(kind, 0)), kind


def test_costs_of_class_and_missed_by_hand() -> None:
    """The one b is detected as a: put right, AP50 of b rises from 0 to 1. Of two a one is missed: AP50 51/101."""
    data = data_of([record([(HERE, 0.9, 0), (THERE, 0.5, 0)], [(HERE, 0), (THERE, 1)]),
                   record([], [(HERE, 0)], image_id=2)])
    now, gained = error_costs(data, [match(one) for one in data.records])
    half = 51 / 101  # recalls 0, 0.01, ..., 0.5
    assert now == pytest.approx(half / 2)
    assert gained['class'] == pytest.approx(0.5)
    assert gained['missed'] == pytest.approx((1 - half) / 2)


def _pycocotools(data: EvaluatedData) -> np.ndarray:
    """The twelve numbers of its own, with its own settings."""
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = {**data.coco, 'info': {}}
        truth.createIndex()
        found = [{'image_id': one.image_id, 'category_id': data.cat_ids[label], 'score': score,
                  'bbox': [box[0], box[1], box[2] - box[0], box[3] - box[1]]}
                 for one in data.records for box, score, label in zip(one.boxes, one.scores, one.labels, strict=True)]
        evaluation = COCOeval(truth, truth.loadRes(found), 'bbox')
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation.stats


@pytest.mark.parametrize('seed', range(3))
def test_ap_is_that_of_pycocotools(seed: int) -> None:
    data = random_data(seed)
    measured = average_precision(data)
    assert [*measured.overall.values()] == pytest.approx(np.where(_pycocotools(data)[:6] < 0, np.nan,
                                                                  _pycocotools(data)[:6]), nan_ok=True)
    assert measured.classes.mean(axis=0) == pytest.approx([*measured.overall.values()][:3])
    assert sum(count for *_, count in measured.sizes) == 12 * 5
    # the matching and the interpolation of our own, which the costs rest on
    assert error_costs(data, [match(one) for one in data.records])[0] == pytest.approx(measured.overall['AP50'])


def test_classes_are_in_the_order_of_the_labels() -> None:
    data = data_of([record([(HERE, 0.9, 0)], [(HERE, 0), (THERE, 1)])])
    assert average_precision(data).classes[:, 0] == pytest.approx([1, 0, np.nan], nan_ok=True)


def test_calibration_by_hand() -> None:
    scores = Scores(np.array([0.95, 0.85, 0.85, 0.15]), np.array([True, True, False, False]), total=4)
    bins, error = scores.calibration()
    assert bins[9] == (0.95, 1.0, 1)
    assert bins[8] == pytest.approx((0.85, 0.5, 2))
    assert bins[1] == (0.15, 0.0, 1)
    assert error == pytest.approx((0.05 + 2 * 0.35 + 0.15) / 4)
    thresholds, precision, recall, f1 = scores.at_thresholds()
    at = {round(float(threshold), 2): index for index, threshold in enumerate(thresholds)}
    assert [precision[at[0.5]], recall[at[0.5]], f1[at[0.5]]] == pytest.approx([2 / 3, 0.5, 4 / 7])
    assert np.isnan(precision[at[0.99]])
    assert recall[at[0.85]] == 0.5  # a score that equals the threshold is kept
    assert 0.15 < scores.best_threshold() <= 0.85


EDGES = {
    'nothing found': [record([], [(HERE, 0)])],
    'nothing there': [record([(HERE, 0.9, 0)], [])],
    'neither': [record([], [])],
    'all right': [record([(HERE, 0.9, 0)], [(HERE, 0)])],
}


@pytest.mark.parametrize('name', EDGES)
@pytest.mark.parametrize('classes', [('a',), ('a', '<b>', 'c')])
def test_the_page_at_the_edges(name: str, classes: tuple[str, ...], tmp_path: Path) -> None:
    """It is whole, needs no network, and the JSON has no NaN."""
    Image.new('RGB', (500, 500), 'gray').save(tmp_path / 'image.png')
    records = [ImageRecord(**{**one.__dict__, 'path': str(tmp_path / 'image.png')}) for one in EDGES[name]]
    analysis = Analysis.of(data_of(records, classes, tuple(range(3, 3 + len(classes)))))
    numbers = as_numbers(analysis, 3)
    write_page(analysis, numbers, tmp_path / 'page.html', 'A <title>')
    write_json(tmp_path / 'numbers.json', numbers)
    page = (tmp_path / 'page.html').read_text()
    assert page.endswith('</html>')
    assert 'http' not in page
    assert '<b>' not in page and '<title>A &lt;title&gt;' in page
    assert page.count('data:image/jpeg') == len(numbers['worst_images']) == (name in ('nothing found', 'nothing there'))

    def refuse(constant: str) -> Any:
        raise AssertionError(constant)

    read = json.loads((tmp_path / 'numbers.json').read_text(), parse_constant=refuse)
    assert read['overall']['AP'] == (1.0 if name == 'all right' else 0.0 if name == 'nothing found' else None)


def test_the_worst_image_is_the_one_with_most_errors() -> None:
    wrong: Box = (200, 0, 250, 50)
    analysis = Analysis.of(data_of([
        record([(HERE, 0.9, 0)], [(HERE, 0)], image_id=1), record([(wrong, 0.9, 0)], [], image_id=2),
        record([(wrong, 0.9, 0)], [(HERE, 0)], image_id=3), record([(wrong, 0.95, 0)], [], image_id=4)]), 0.5)
    assert analysis.worst(5) == [2, 3, 1]
    assert analysis.errors_of(2) == {'background': 1, 'missed': 1}


FOUND = {'bboxes': torch.ones(1, 4), 'scores': torch.tensor([0.25]), 'labels': torch.tensor([1])}


@pytest.mark.parametrize('change', [
    {'bboxes': torch.ones(1, 3)}, {'bboxes': torch.full((1, 4), torch.inf)}, {'scores': torch.tensor([torch.nan])},
    {'scores': torch.ones(2)}, {'scores': 'x'}, {'labels': torch.tensor([0.5])}, {'labels': None},
    {'bboxes': [[1], []]}, {'masks': []}, {'masks': None},
], ids=str)
def test_results_that_are_not_detections(change: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / 'out.pkl'
    path.write_bytes(pickle.dumps([{'img_id': 3, 'pred_instances': {**FOUND, **change}}]))
    with pytest.raises(UserError, match=r'out\.pkl is not a results file'):
        read_predictions(path)


class OneImage(list):
    """A data set with one image of 20 x 30 pixels and one object."""
    cat_ids = (7,)
    backend_args = None

    def __init__(self, folder: Path) -> None:
        super().__init__([0])
        self.metainfo = {'classes': ('a',)}
        self.ann_file = str(folder / 'one.json')
        outline = [2, 2, 12, 2, 12, 12, 2, 12]
        Path(self.ann_file).write_text(json.dumps({
            'images': [{'id': 3, 'file_name': 'x.png', 'height': 20, 'width': 30}],
            'categories': [{'id': 7, 'name': 'a'}],
            'annotations': [{'id': 1, 'image_id': 3, 'category_id': 7, 'bbox': [2, 2, 10, 10], 'area': 100,
                             'iscrowd': 0, 'segmentation': [outline]}]}))

    def get_data_info(self, index: int) -> dict[str, Any]:
        return {'img_id': 3, 'img_path': 'x.png', 'height': 20, 'width': 30}


def found_with(mask: Any) -> dict[int, dict[str, Any]]:
    return {3: {'bboxes': [[2, 2, 12, 12]], 'scores': [0.9], 'labels': [0], 'masks': [mask]}}


@pytest.mark.parametrize(('bottom', 'mask_ap'), [(12, 1.0), (10, 0.7), (6, 0.0)])  # IoU 1, 0.8 and 0.4
def test_masks_of_a_results_file_are_compared_too(tmp_path: Path, bottom: int, mask_ap: float) -> None:
    bitmap = np.zeros((20, 30), np.uint8, order='F')
    bitmap[2:bottom, 2:12] = 1
    analysis = Analysis.of(evaluated_data(OneImage(tmp_path), found_with(coco_mask.encode(bitmap))))
    numbers = as_numbers(analysis, 0)
    assert numbers['overall']['AP'] == pytest.approx(1) and numbers['masks']['AP'] == pytest.approx(mask_ap)
    assert f'AP 1.000, AP50 1.000, mask AP {mask_ap:.3f}, mask AP50 {float(mask_ap > 0):.3f};' in summary(numbers)
    write_page(analysis, numbers, tmp_path / 'page.html', 'masks')
    assert '<dt>mask AP50<dd>' in (tmp_path / 'page.html').read_text()


@pytest.mark.parametrize('mask', [
    {'size': [20, 30], 'counts': b'1'}, {'size': [10, 30], 'counts': [300]}, {'counts': b'1'}, 5,
    {'size': [20, 30], 'counts': b'\xff\xff'}], ids=str)
def test_masks_that_do_not_fit_their_image_are_refused(mask: Any, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r'the mask of a detection in x\.png (has|is) .*; pass the --config or --data'):
        evaluated_data(OneImage(tmp_path), found_with(mask))


def test_names_of_any_kind_are_text_on_a_page(tmp_path: Path) -> None:
    """Half of a surrogate pair is in the name of a file that is not UTF-8."""
    write_document(tmp_path / 'x.html', '</title><script>\udcff', '<p>text</p>')
    page = (tmp_path / 'x.html').read_text(encoding='utf-8')
    assert '<script>' not in page and '&lt;script&gt;\\udcff' in page and '<p>text</p>' in page


def test_a_results_file_is_read_as_data(tmp_path: Path) -> None:
    path = tmp_path / 'out.pkl'
    path.write_bytes(pickle.dumps([{'img_id': 3, 'pred_instances': FOUND,
                                    'scale_factor': (np.float64(2), np.ones(2))}]))
    assert read_predictions(path)[0]['pred_instances']['scores'].tolist() == [0.25]
    path.write_bytes(pickle.dumps([print]))
    with pytest.raises(UserError, match='builtins.print is more than data'):
        read_predictions(path)
    path.write_bytes(b'no pickle')
    with pytest.raises(UserError, match='is not a results file'):
        read_predictions(path)
    with pytest.raises(UserError, match=r'results file not found: .*sparse-rcnn test CHECKPOINT --out'):
        read_predictions(tmp_path / 'none.pkl')
