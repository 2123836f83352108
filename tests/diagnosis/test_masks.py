"""Masks in the examination: each planted fault is named, from the numbers and from the command line."""
from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from sparse_rcnn_mm.cli.doctor import main
from sparse_rcnn_mm.datasets.masks import run_lengths
from sparse_rcnn_mm.diagnosis.hypotheses import AS_THEY_ARE
from sparse_rcnn_mm.diagnosis.mask_places import by_boxes
from sparse_rcnn_mm.diagnosis.measurements import Augmented, Masks, Overfit, Stage, Trained
from sparse_rcnn_mm.diagnosis.parts import part_of
from sparse_rcnn_mm.diagnosis.precision import ap_of
from sparse_rcnn_mm.diagnosis.sample import Labelled
from sparse_rcnn_mm.diagnosis.verdict import FAULT, NOTE, WARNING, conclusion, verdicts
from sparse_rcnn_mm.errors import UserError
from sparse_rcnn_mm.evaluation.records import EvaluatedData, ImageRecord

from .planted import MASK_CONFIG, diamonds, of_the_next, write_config, write_rectangles
from .test_verdict import healthy

WIDTH, HEIGHT = 80, 60
BOXES = np.array([[4, 6, 24, 16], [40, 10, 52, 40], [30, 44, 60, 56], [62, 4, 78, 30], [6, 30, 22, 54.]])


def bitmaps(boxes: np.ndarray = BOXES) -> np.ndarray:
    """The boxes without their upper left quarter."""
    found = np.zeros((len(boxes), HEIGHT, WIDTH), np.uint8)
    for bitmap, (x1, y1, x2, y2) in zip(found, boxes.astype(int), strict=True):
        bitmap[y1:y2, x1:x2] = 1
        bitmap[y1:(y1 + y2) // 2, x1:(x1 + x2) // 2] = 0
    return found


def measured(masks: np.ndarray, boxes: np.ndarray = BOXES) -> Masks:
    return by_boxes([Labelled(Path('a.png'), WIDTH, HEIGHT, boxes, np.zeros(len(boxes)),
                              tuple(run_lengths(mask) for mask in masks))])


def said(masks: Masks) -> list[str]:
    return [str(one) for one in verdicts(replace(healthy(), masks=masks))]


def test_masks_that_fit() -> None:
    found = measured(bitmaps())
    assert (found.boxes, found.masks, found.elsewhere, found.whole, found.decided) == (5, 5, 0, 0, AS_THEY_ARE)
    assert found.hypotheses[0].fit == 1
    assert said(found) == []


def test_shifted_masks() -> None:
    """Each by 10 to the right and 4 up; the first box of 20 x 10 keeps an IoU of 60 / 340."""
    found = measured(np.roll(bitmaps(), (-4, 10), (1, 2))[:3], BOXES[:3])
    assert found.decided is None  # three are too few
    assert said(found)[0].startswith('masks are not where their boxes are: 3 of 3')
    moved = np.concatenate([bitmaps()] * 2)
    boxes = np.concatenate([BOXES] * 2) - np.tile([10, -4], 2)
    found = by_boxes([Labelled(Path('a.png'), WIDTH, HEIGHT, boxes, np.zeros(10), tuple(map(run_lengths, moved)))])
    assert (found.decided, found.shift) == ('shifted', (10, -4))
    expected = np.mean([(w - 10) * (h - 4) / (2 * w * h - (w - 10) * (h - 4)) for w, h in BOXES[:, 2:] - BOXES[:, :2]])
    sentence, = said(found)
    assert sentence == (f'masks are shifted by 10 px right and 4 px up from their boxes: the mean IoU of 10 masks with '
                        f'their boxes is {expected:.2f}, and 1.00 when they are put right')


@pytest.mark.parametrize(('change', 'words'), [
    (lambda masks: 1 - masks, 'the masks are inverted'),
    (lambda masks: masks[:, :, ::-1], 'the masks are mirrored left to right'),
    (lambda masks: masks[:, ::-1], 'the masks are mirrored top to bottom'),
    (lambda masks: masks.reshape(len(masks), WIDTH, HEIGHT).swapaxes(1, 2), 'the run lengths of the masks were written '
     'row by row'),
])
def test_masks_that_were_read_in_another_way(change: Callable[[np.ndarray], np.ndarray], words: str) -> None:
    sentence, = said(measured(change(bitmaps())))
    assert sentence.startswith(words) and sentence.endswith('and 1.00 when they are put right')


@pytest.mark.parametrize(('polygons', 'words'), [
    (True, 'x and y of the masks are swapped'), (False, 'the run lengths of the masks were written row by row')])
def test_rows_and_columns_exchanged_in_a_square_image(polygons: bool, words: str) -> None:
    """Both would have the same masks, and only run lengths can be written row by row."""
    masks = []
    for x1, y1, x2, y2 in BOXES.tolist():
        bitmap = np.zeros((WIDTH, WIDTH), np.uint8)
        bitmap[int(x1):int(x2), int(y1):int(y2)] = 1
        masks.append([[y1, x1, y2, x1, y2, x2, y1, x2]] if polygons else run_lengths(bitmap))
    fault = said(by_boxes([Labelled(Path('a.png'), WIDTH, WIDTH, BOXES, np.zeros(5), tuple(masks))]))[0]
    assert fault.startswith(words) and fault.endswith('and 1.00 when they are put right')


def test_masks_of_another_object() -> None:
    found = measured(np.roll(bitmaps(), 1, 0))
    assert (found.elsewhere, found.of_another) == (5, 5)
    assert said(found) == ['masks belong to other objects: 5 of 5 lie in the box of another object of their image: '
                           'check how masks and boxes are joined']


def test_empty_masks_masks_without_a_box_and_masks_that_are_boxes() -> None:
    masks = bitmaps()
    masks[:3] = 0
    found = measured(masks)
    assert (found.elsewhere, found.of_another, found.empty) == (3, 0, 3)
    sentence, = said(found)
    assert sentence.startswith('masks are not where their boxes are: 3 of 5 have an IoU below 0.5 with their boxes, '
                               'and 3 of them are empty')
    masks = bitmaps()
    masks[0] = 0
    warning, = verdicts(replace(healthy(), masks=measured(masks)))
    assert (warning.kind, warning.sentence) == (WARNING, '1 of 5 masks are not where their boxes are')
    whole = np.zeros_like(masks)
    for bitmap, (x1, y1, x2, y2) in zip(whole, BOXES.astype(int), strict=True):
        bitmap[y1:y2, x1:x2] = 1
    warning, = verdicts(replace(healthy(), masks=measured(whole)))
    assert (warning.kind, warning.sentence) == (WARNING, '5 of 5 masks fill their whole box')


@pytest.mark.parametrize(('numbers', 'kinds'), [
    ({'elsewhere': 9, 'of_another': 9}, [WARNING]), ({'elsewhere': 10, 'of_another': 10}, [FAULT]),
    ({'elsewhere': 50}, [WARNING]), ({'elsewhere': 51}, [FAULT]), ({'whole': 89}, []), ({'whole': 90}, [WARNING])])
def test_what_share_of_a_hundred_masks_is_worth_a_word(numbers: dict[str, int], kinds: list[str]) -> None:
    masks = Masks(100, 100, decided=AS_THEY_ARE, **numbers)
    assert [one.kind for one in verdicts(replace(healthy(), masks=masks))] == kinds
    assert [one.kind for one in verdicts(replace(healthy(), masks=replace(masks, boxes=101)))] == [*kinds, NOTE]


def test_boxes_without_a_mask_and_masks_that_cannot_be_decoded() -> None:
    segmentations = [*map(run_lengths, bitmaps()[:3]), None, {'size': [7, 7], 'counts': '1'}]
    found = by_boxes([Labelled(Path('a.png'), WIDTH, HEIGHT, BOXES, np.zeros(5), tuple(segmentations))])
    fault, note = verdicts(replace(healthy(), masks=found))
    assert (fault.kind, fault.sentence) == (FAULT, '1 mask cannot be decoded, and training stops there: in a.png a '
                                            'segmentation has the size [7, 7], but the image is 60 high and 80 wide')
    assert (note.kind, note.sentence) == (NOTE, '1 of 5 boxes have no mask, and training leaves them out')
    assert by_boxes([]) == Masks(0)


def test_wrong_boxes_come_before_masks_that_differ_from_them() -> None:
    labels = replace(healthy().labels, decided='shifted', shift=(5, 5),
                     hypotheses=[*healthy().labels.hypotheses, replace(healthy().labels.hypotheses[0], name='shifted')])
    found = replace(healthy(), labels=labels, masks=measured(bitmaps()[:, :, ::-1]))
    assert [one.kind for one in verdicts(found)] == [FAULT]
    assert conclusion(found).startswith('labels are shifted by 5 px right and 5 px down')


def test_a_pipeline_that_drops_masks() -> None:
    assert verdicts(replace(healthy(), augmented=Augmented(8, 20, 20, 20, 12))) == []
    assert conclusion(replace(healthy(), augmented=Augmented(8, 20, 20, 20, 3))).startswith(
        'the training pipeline drops 17 of 20 masks: ')


def test_mask_heads_are_a_part() -> None:
    assert part_of('roi_head.mask_head.1.convs.0.weight') == 'mask heads'


@pytest.mark.slow
@pytest.mark.parametrize(('change', 'sentence'), [
    (partial(diamonds, right=12, down=8), 'masks are shifted by 12 px right and 8 px down from their boxes: '),
    (of_the_next, 'masks belong to other objects: '),
])
def test_planted_faults_by_the_command(change: Callable[[dict], None], sentence: str, tmp_path: Path,
                                       capsys: pytest.CaptureFixture[str]) -> None:
    data = write_rectangles(tmp_path / 'data', change)
    config = write_config(tmp_path, config=MASK_CONFIG)
    out = str(tmp_path / 'out')
    assert main(['--data', str(data), '--config', str(config), '--out', out, '--iterations', '3']) == 1
    found = json.loads((tmp_path / 'out/doctor.json').read_text())
    assert found['conclusion'].startswith(sentence)
    assert found['measured']['augmented'] == {'images': 8, 'before': 17, 'after': 17, 'masks_before': 17,
                                              'masks_after': 17}
    assert 'augmentation: 17 boxes before, 17 after; 17 masks before, 17 after' in capsys.readouterr().out
    assert 'Masks and their boxes' in (tmp_path / 'out/doctor.html').read_text()


def test_mask_ap_by_hand() -> None:
    """Two boxes with the same scores, both right as boxes: one mask is exact, the other has half of its pixels."""
    truth = bitmaps()[:2]
    half = truth[1].copy()
    half[:25] = 0  # 10 to 40: half of the rows, and the missing quarter was above
    boxes = BOXES[:2]
    annotations = [{'id': number, 'image_id': 1, 'category_id': 1, 'iscrowd': 0, 'area': float(mask.sum()),
                    'bbox': [*box[:2], *(box[2:] - box[:2])], 'segmentation': run_lengths(mask)}
                   for number, (box, mask) in enumerate(zip(boxes, truth, strict=True), start=1)]
    coco = {'images': [{'id': 1, 'file_name': 'a.png', 'width': WIDTH, 'height': HEIGHT}],
            'categories': [{'id': 1, 'name': 'cat'}], 'annotations': annotations}
    record = ImageRecord(1, 'a.png', boxes, np.array([0.9, 0.8]), np.array([0, 0]), boxes, np.array([0, 0]),
                         np.zeros(2, bool), (run_lengths(truth[0]), run_lengths(half)))
    data = EvaluatedData(('cat',), (1,), coco, [record])
    assert ap_of(data) == pytest.approx((1, 1))
    # IoU of the second mask: 180 of 270 pixels, so it counts at 0.50, 0.55, 0.60 and 0.65; else recall ends at 0.5
    assert half.sum() / truth[1].sum() == pytest.approx(2 / 3)
    assert ap_of(data, masks=True) == pytest.approx(((4 + 6 * 51 / 101) / 10, 1))
    assert data.has_masks
    del annotations[1]['segmentation']  # it is a crowd then, and the detection on it is ignored
    assert ap_of(data, masks=True) == pytest.approx((1, 1))
    # a line is no mask either, and a box may reach far beyond the image
    annotations[1].update(segmentation=[[1, 2, 3, 4]], bbox=[-5e6, -5e6, 1e7, 1e7])
    assert ap_of(data, masks=True) == pytest.approx((1, 1))
    assert not replace(data, coco={**coco, 'annotations': annotations[1:]}).has_masks
    annotations[0]['segmentation'] = {'size': [3, 3], 'counts': '9'}
    with pytest.raises(UserError, match=r'annotation 1 of image a.png: its segmentation has the size \[3, 3\]'):
        ap_of(data, masks=True)
    assert not replace(data, records=[replace(record, masks=None)]).has_masks
    assert record.above(0.85).masks == record.masks[:1]


def test_boxes_that_were_learned_without_their_masks() -> None:
    learned = [(180, 0.8, 1.)]
    stuck = Overfit(8, [10.] * 300, learned, 100., 'stuck', after=[Stage(0.), Stage(1., 0.1, 0.9, 0.9)],
                    mask_ap=[(180, 0., 0.05)])
    assert stuck.least == 0.05
    assert conclusion(replace(healthy(), overfit=stuck)).startswith(
        'the boxes of 8 images were learned (1.00 AP50), but not their masks (0.05 mask AP50): ')
    done = replace(stuck, limit='learned', mask_ap=[(180, 0.5, 0.95)])
    assert conclusion(replace(healthy(), overfit=done)) == (
        'all is well: 1.00 AP50 (0.80 AP) and 0.95 mask AP50 (0.50 AP) on 8 images in 180 iterations')
    trained = Trained('x.pth', (0.5, 0.9), (0.4, 0.8), (0.3, 0.7))
    assert str(verdicts(replace(healthy(), trained=trained))[0]) == (
        'x.pth has 0.90 AP50 and 0.70 mask AP50 on some of its own training images, and 0.80 on validation images')


@pytest.mark.slow
def test_masks_are_learned(tmp_path: Path) -> None:
    data = write_rectangles(tmp_path / 'data', diamonds)
    config = write_config(tmp_path, config=MASK_CONFIG)
    assert main(['--data', str(data), '--config', str(config), '--out', str(tmp_path / 'out')]) == 0
    found = json.loads((tmp_path / 'out/doctor.json').read_text())
    assert found['conclusion'].startswith('all is well: ') and ' mask AP50 ' in found['conclusion']
    assert found['measured']['overfit']['mask_ap'][-1][2] >= 0.9
    assert {part['name']: part['moved'] > 0 for part in found['measured']['weights']['parts']}['mask heads']
