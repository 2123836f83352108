"""Two detectors with known boxes, compared by hand; and two checkpoints through the tool."""
from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from sparse_rcnn_mm.datasets.masks import run_lengths
from sparse_rcnn_mm.errors import UserError
from sparse_rcnn_mm.evaluation.comparison.agreement import SharedClasses, agree, pairs_by_iou
from sparse_rcnn_mm.evaluation.comparison.comparison import Comparison
from sparse_rcnn_mm.evaluation.comparison.numbers import as_numbers
from sparse_rcnn_mm.evaluation.comparison.page import summary_rows, write_page
from sparse_rcnn_mm.evaluation.comparison.pictures import draw_pictures
from sparse_rcnn_mm.evaluation.comparison.side import Side
from sparse_rcnn_mm.evaluation.comparison.subject import Subject
from sparse_rcnn_mm.inference.detections import ImageDetections, ImageDetector
from tests.kit import CLASSES
from tests.kit.data_sets import write_squares

from .test_analysis import HERE, THERE, Box, record

Found = Sequence[tuple[Box, float, str]]
NEAR: Box = (0, 0, 100, 80)  # IoU with HERE: 0.8


class Known(ImageDetector):
    """Finds what it is told to, by the value of the first pixel of an image."""

    def __init__(self, classes: Sequence[str], found: Mapping[int, Found]) -> None:
        super().__init__(classes)
        self.found = found

    def prepare(self, image: np.ndarray) -> dict[str, Any]:
        return {'which': int(image[0, 0, 0])}

    def detect(self, inputs: Sequence[dict[str, Any]]) -> list[ImageDetections]:
        return [self.named(np.array([box for box, *_ in found], np.float32).reshape(-1, 4),
                           np.array([score for _, score, _ in found], np.float32),
                           np.array([self.classes.index(name) for *_, name in found], np.int64))
                for found in (self.found.get(one['which'], ()) for one in inputs)]


def images(folder: Path, values: Sequence[int]) -> Path:
    folder.mkdir()
    for value in values:
        Image.new('RGB', (500, 500), (value, 0, 0)).save(folder / f'{value}.png')
    return folder


def annotated(folder: Path) -> Path:
    """Two images: a cat and a dog on the first; a cow, which no detector knows, and a cat on the second."""
    images(folder, [1, 2])
    boxes = [(1, 1, HERE), (1, 2, THERE), (2, 3, THERE), (2, 1, HERE)]
    (folder / 'val.json').write_text(json.dumps({
        'images': [{'id': n, 'file_name': f'{n}.png', 'width': 500, 'height': 500} for n in (1, 2)],
        'categories': [{'id': 1, 'name': 'cat'}, {'id': 2, 'name': 'dog'}, {'id': 3, 'name': 'cow'}],
        'annotations': [{'id': n, 'image_id': image, 'category_id': category, 'area': 10000,
                         'bbox': [x1, y1, x2 - x1, y2 - y1]}
                        for n, (image, category, (x1, y1, x2, y2)) in enumerate(boxes, start=1)]}))
    return folder


def compared(a: Known, b: Known, inputs: Path, out: Path, score_thr: float | None = None) -> Comparison:
    classes = SharedClasses.of(a.classes, b.classes)
    subject = Subject.find([str(inputs)], classes.names, [(), ()], out)
    return Comparison.run((Side('a.pth', a), Side('b.pth', b)), classes, subject, (score_thr, score_thr))


def test_each_detection_is_in_one_of_four_groups_and_the_sides_may_be_exchanged() -> None:
    """NEAR is closer to HERE than the copy; THERE has another class; the last one of A stands alone."""
    a = record([(HERE, 0.9, 0), (THERE, 0.8, 1), ((400, 0, 450, 50), 0.7, 2)], [])
    b = record([((0, 0, 100, 60), 0.9, 0), (NEAR, 0.4, 0), (THERE, 0.3, 2)], [])
    found, exchanged = agree(a, b), agree(b, a)
    assert found.both.tolist() == [[0, 1]]
    assert found.other_class.tolist() == [[1, 2]]
    assert [only.tolist() for only in found.only] == [[2], [0]]
    assert found.disagreements == exchanged.disagreements == 3
    assert exchanged.both.tolist() == [[1, 0]]
    assert [only.tolist() for only in exchanged.only] == [[0], [2]]
    assert agree(a, a).disagreements == 0
    nothing = agree(record([], []), b)
    assert (len(nothing.both), nothing.only[1].tolist()) == (0, [0, 1, 2])


def test_the_highest_iou_is_paired_first() -> None:
    assert pairs_by_iou(np.array([[0.6, 0.9], [0.5, 0.8], [0.4, 0.7]]), 0.5).tolist() == [[0, 1], [1, 0]]


def test_numbers_by_hand_with_classes_in_another_order(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """A finds two of the three objects, and a cat that is none; B finds one, and takes the dog for a cat."""
    a = Known(['cat', 'dog', 'emu'], {1: [(HERE, 0.9, 'cat'), (THERE, 0.8, 'dog')],
                                      2: [((200, 0, 280, 80), 0.7, 'cat'), (THERE, 0.6, 'emu')]})
    b = Known(['ant', 'dog', 'cat'], {1: [(HERE, 0.9, 'cat'), (THERE, 0.8, 'cat')]})
    comparison = compared(a, b, annotated(tmp_path / 'data'), tmp_path / 'out', 0.5)
    assert 'boxes of classes that the model does not know are skipped: cow' in capsys.readouterr().out
    numbers = as_numbers(comparison)
    assert numbers['classes'] == {'compared': ['cat', 'dog'], 'only A': ['emu'], 'only B': ['ant']}
    assert [numbers['models'][letter]['of_other_classes'] for letter in 'AB'] == [{'emu': 1}, {}]
    assert numbers['agreement'] == {
        'both': {'count': 1, 'A correct': 1, 'B correct': 1}, 'only A': {'count': 1, 'A correct': 0},
        'only B': {'count': 0, 'B correct': 0}, 'other class': {'count': 1, 'A correct': 1, 'B correct': 0}}
    found = numbers['average_precision']
    # one of two cats is found before anything else: precision 1 up to recall 0.5, at 51 of 101 recalls
    assert found['classes']['cat'] == {'boxes': 2, 'A': pytest.approx(51 / 101), 'B': pytest.approx(51 / 101)}
    assert found['classes']['dog'] == {'boxes': 1, 'A': pytest.approx(1), 'B': 0}
    assert found['overall']['AP']['A'] == pytest.approx((51 / 101 + 1) / 2)
    assert [(one['from'], one['boxes']) for one in found['sizes']] == [(96, 3)]
    first, second = numbers['by_image']
    assert (first['image_id'], first['A correct'], first['A errors'], first['B correct'], first['B errors']) == (
        1, 2, 0, 1, 1)
    assert (second['objects'], second['only A'], second['A errors'], second['B errors']) == (1, 1, 2, 1)


def test_images_without_annotations_come_with_the_most_disagreements_first(tmp_path: Path) -> None:
    """On 3 they agree; on 1 one object is missing in B, on 2 two; 4 is as 1, but A is more certain."""
    far: Box = (0, 300, 80, 380)
    a = Known(['cat'], {1: [(HERE, 0.5, 'cat')], 2: [(HERE, 0.9, 'cat'), (far, 0.8, 'cat')],
                        3: [(HERE, 0.9, 'cat')], 4: [(HERE, 0.9, 'cat'), (far, 0.2, 'cat')]})
    b = Known(['cat'], {3: [(NEAR, 0.4, 'cat')]})
    comparison = compared(a, b, images(tmp_path / 'images', [1, 2, 3, 4]), tmp_path / 'out')
    numbers = as_numbers(comparison)
    assert [row['name'] for row in numbers['by_image']] == ['2.png', '4.png', '1.png', '3.png']
    assert numbers['agreement']['only A'] == {'count': 4}  # the score of 0.2 is below the threshold
    assert 'average_precision' not in numbers
    assert comparison.seconds.shape == (4, 2) and (comparison.seconds > 0).all()
    write_page(comparison, numbers, tmp_path / 'page.html', pictures=3)
    page = (tmp_path / 'page.html').read_text()
    assert page.count('data:image/jpeg') == 6 and '1 more images' in page


def test_what_cannot_be_compared_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match='no class in common: A knows cat; B knows dog'):
        SharedClasses.of(['cat'], ['dog'])
    (tmp_path / 'empty').mkdir()
    with pytest.raises(UserError, match='empty'):
        Subject.find([str(tmp_path / 'empty')], ['cat'], [], tmp_path / 'out')
    with pytest.raises(UserError, match='cow'):
        Subject.find([str(annotated(tmp_path / 'data'))], ['bee'], [], tmp_path / 'out')
    broken = images(tmp_path / 'broken', [])
    (broken / 'a.png').write_bytes(b'no image')
    with pytest.raises(UserError, match='none of the 1 images'):
        compared(Known(['cat'], {}), Known(['cat'], {}), broken, tmp_path / 'out')


def test_a_checkpoint_and_an_exported_file(tool: Callable[..., int], small_checkpoint: Path, exported: Path,
                                           tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """They find the same; sizes are those of the files, and the data is told from plain images."""
    data = write_squares(tmp_path / 'mine', [CLASSES[3], CLASSES[1]], ('val',))
    assert tool('compare', small_checkpoint, exported, data, '--score-thr', '0.2') == 0
    shown = capsys.readouterr().out
    numbers = json.loads((tmp_path / 'comparison/comparison.json').read_text())
    assert numbers['images'] == 8 and list(numbers['average_precision']['classes']) == list(CLASSES)
    counts = {kind: row['count'] for kind, row in numbers['agreement'].items()}
    assert counts['both'] and counts == {'both': counts['both'], 'only A': 0, 'only B': 0, 'other class': 0}
    assert f'found by both {counts["both"]}, only by A 0' in shown
    models = numbers['models']
    assert models['A']['file_bytes'] == small_checkpoint.stat().st_size
    assert models['B']['file_bytes'] == exported.stat().st_size
    assert models['A']['parameters'] > 0 and models['B']['parameters'] is None
    assert tool('compare', small_checkpoint, exported, data / 'val', '--out-dir', 'plain', '--pictures', '2') == 0
    assert 'average_precision' not in json.loads((tmp_path / 'plain/comparison.json').read_text())
    capsys.readouterr()
    assert tool('compare', small_checkpoint, exported, data, '--score-thr', '1', '2', '3') == 1
    assert '--score-thr takes one number' in capsys.readouterr().err


def test_a_checkpoint_without_a_config_needs_the_option_of_its_side(
        tool: Callable[..., int], small_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    bare = tmp_path / 'bare.pth'
    torch.save({'a': torch.ones(1)}, bare)
    for a, b, letter in ((bare, small_checkpoint, 'a'), (small_checkpoint, bare, 'b')):
        assert tool('compare', a, b, tmp_path) == 1
        assert (f'bare.pth contains weights without a config: pass the one it was trained with (--config-{letter} FILE)'
                in capsys.readouterr().err)


class Masked(Known):
    """As `Known`, with masks: the upper part of each box, of so many rows."""

    def __init__(self, classes: Sequence[str], found: Mapping[int, Found], rows: int) -> None:
        super().__init__(classes, found)
        self.rows = rows

    def detect(self, inputs: Sequence[dict[str, Any]]) -> list[ImageDetections]:
        return [replace(one, masks=np.array([upper(box, self.rows) for box in one.boxes], bool).reshape(-1, 500, 500))
                for one in super().detect(inputs)]


def upper(box: Sequence[float], rows: int) -> np.ndarray:
    bitmap = np.zeros((500, 500), bool)
    x1, y1, x2, _ = (int(value) for value in box)
    bitmap[y1:y1 + rows, x1:x2] = True
    return bitmap


def with_masks(data: Path) -> Path:
    """The whole box as the mask of each annotation but the last, a cat on the second image, which has a line."""
    content = json.loads((data / 'val.json').read_text())
    for one in content['annotations'][:-1]:
        x, y, width, height = one['bbox']
        one['segmentation'] = [[x, y, x + width, y, x + width, y + height, x, y + height]]
    content['annotations'][-1]['segmentation'] = [[1, 2, 3, 4]]
    (data / 'val.json').write_text(json.dumps(content))
    return data


def test_masks_of_one_side_or_both(tmp_path: Path) -> None:
    """A covers 100 of 100 rows, B 60: right at 0.50, 0.55 and 0.60 only. A line is no mask to find."""
    found = {1: [(HERE, 0.9, 'cat'), (THERE, 0.8, 'dog')]}
    a, b = Masked(['cat', 'dog'], found, 100), Masked(['cat', 'dog'], found, 60)
    data = with_masks(annotated(tmp_path / 'data'))
    masks = as_numbers(compared(a, b, data, tmp_path / 'out'))['mask_average_precision']
    assert masks['classes'] == {'cat': {'masks': 1, 'A': pytest.approx(1), 'B': pytest.approx(0.3)},
                                'dog': {'masks': 1, 'A': pytest.approx(1), 'B': pytest.approx(0.3)}}
    assert masks['overall']['AP75'] == {'A': pytest.approx(1), 'B': 0}
    assert [(one['from'], one['masks']) for one in masks['sizes']] == [(96, 2)]
    comparison = compared(a, Known(['cat', 'dog'], found), data, tmp_path / 'out')
    numbers = as_numbers(comparison)
    assert numbers['average_precision']['overall']['AP'] == {'A': pytest.approx(0.75, abs=0.01),
                                                             'B': pytest.approx(0.75, abs=0.01)}
    assert numbers['mask_average_precision']['overall']['AP'] == {'A': pytest.approx(1), 'B': pytest.approx(
        float('nan'), nan_ok=True)}
    assert ('mask AP50', '1.000', '-') in summary_rows(numbers)
    write_page(comparison, numbers, tmp_path / 'page.html', pictures=1)
    assert 'Mask AP by class' in (tmp_path / 'page.html').read_text()
    plain = as_numbers(compared(a, b, annotated(tmp_path / 'without'), tmp_path / 'out'))
    assert 'average_precision' in plain and 'mask_average_precision' not in plain


def test_an_invalid_mask_is_reported_before_anything_is_detected(tmp_path: Path) -> None:
    data = with_masks(annotated(tmp_path / 'data'))
    content = json.loads((data / 'val.json').read_text())
    content['annotations'][1]['segmentation'] = {'size': [3, 3], 'counts': '9'}
    (data / 'val.json').write_text(json.dumps(content))
    with pytest.raises(UserError, match=r'1\.png: its segmentation has the size \[3, 3\]'):
        Subject.find([str(data)], ['cat', 'dog'], [(), ()], tmp_path / 'out', masks=True)
    Subject.find([str(data)], ['cat', 'dog'], [(), ()], tmp_path / 'out')


def test_masks_are_drawn(tmp_path: Path) -> None:
    """On a black picture: A's mask is green, as both found the box; the true mask is blue; B has none."""
    found = {1: [((100, 100, 300, 300), 0.9, 'cat')]}
    a, b = Masked(['cat'], found, 100), Known(['cat'], found)
    data = with_masks(annotated(tmp_path / 'data'))
    comparison = compared(a, b, data, tmp_path / 'out', 0.5)
    ours, theirs, truth = draw_pictures(replace(comparison, sides=(replace(comparison.sides[0], masks=True),
                                                                   comparison.sides[1])), 0, side=500)
    assert ours.getpixel((200, 150))[1] > 50 and ours.getpixel((200, 250))[1] == 0
    assert theirs.getpixel((200, 150))[1] == 0
    assert truth.getpixel((50, 60))[2] > 50 and truth.getpixel((200, 150))[2] == 0


def test_memory_of_masks_is_that_of_their_run_lengths(tmp_path: Path) -> None:
    a = Masked(['cat'], {1: [(HERE, 0.9, 'cat')]}, 100)
    comparison = compared(a, a, images(tmp_path / 'images', [1]), tmp_path / 'out')
    one, = comparison.analyses[0].records
    assert one.masks == (run_lengths(upper(HERE, 100)),)
    assert 'mask_average_precision' not in as_numbers(comparison)
