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
from sparse_rcnn_mm.diagnosis.measurements import Augmented, Masks
from sparse_rcnn_mm.diagnosis.parts import part_of
from sparse_rcnn_mm.diagnosis.sample import Labelled
from sparse_rcnn_mm.diagnosis.verdict import FAULT, NOTE, WARNING, conclusion, verdicts

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


def test_boxes_without_a_mask_and_masks_that_cannot_be_decoded() -> None:
    segmentations = [*map(run_lengths, bitmaps()[:3]), None, {'size': [7, 7], 'counts': '1'}]
    found = by_boxes([Labelled(Path('a.png'), WIDTH, HEIGHT, BOXES, np.zeros(5), tuple(segmentations))])
    fault, note = verdicts(replace(healthy(), masks=found))
    assert (fault.kind, fault.sentence) == (FAULT, '1 mask cannot be decoded, and training stops at them: in a.png a '
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
