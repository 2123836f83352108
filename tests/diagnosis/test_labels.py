"""Labels against the edges of images and against detections, with faults of known size."""
from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sparse_rcnn_mm.diagnosis.detections import compare
from sparse_rcnn_mm.diagnosis.edges import by_edges
from sparse_rcnn_mm.diagnosis.hypotheses import AS_THEY_ARE, CHANGES, SHIFTED, moved_words
from sparse_rcnn_mm.diagnosis.sample import Labelled, labelled_images
from sparse_rcnn_mm.inference.detector import ImageDetections
from sparse_rcnn_mm.own_data.reading import read_data

from .planted import CLASSES, shifted, swapped, write_rectangles


def labels_of(root: Path, change: Callable[[dict], None] = lambda coco: None) -> list[Labelled]:
    return labelled_images(read_data(write_rectangles(root, change)), 24)[0]


def test_edges_lie_under_right_boxes(tmp_path: Path) -> None:
    found = by_edges(labels_of(tmp_path))
    assert found.decided == AS_THEY_ARE
    assert found.hypotheses[0].fit > 3


def test_only_boxes_that_training_uses_are_compared(tmp_path: Path) -> None:
    def one_left(coco: dict) -> None:
        coco['annotations'][:4] = [{**coco['annotations'][0], **more, 'id': number, 'image_id': 1} for number, more in
                                   enumerate([{'iscrowd': 1}, {'ignore': 1}, {'segmentation': [[1, 2, 3, 4]]}, {}], 1)]
        del coco['annotations'][4:]

    only, = labels_of(tmp_path, one_left)
    assert len(only.boxes) == 1


def test_edges_tell_how_far_boxes_are_off(tmp_path: Path) -> None:
    found = by_edges(labels_of(tmp_path, shifted))
    assert (found.decided, found.by) == (SHIFTED, 'edges')
    assert found.shift == pytest.approx((12, 8), abs=1)


def test_edges_tell_swapped_axes(tmp_path: Path) -> None:
    assert by_edges(labels_of(tmp_path, swapped)).decided == 'swapped'


def test_edges_say_nothing_of_boxes_that_are_nowhere(tmp_path: Path) -> None:
    random = np.random.RandomState(0)

    def anywhere(coco: dict) -> None:
        for box in coco['annotations']:
            box['bbox'][:2] = random.randint(0, 80), random.randint(0, 60)

    assert by_edges(labels_of(tmp_path, anywhere)).decided is None


def truth(images: int = 20) -> list[Labelled]:
    """Three boxes of 100 x 60 to 140 x 90 pixels in each image of 900 x 500, at places that do not overlap."""
    random = np.random.RandomState(1)
    several = []
    for _ in range(images):
        corner = np.stack([np.arange(3) * 230 + random.randint(0, 60, 3), random.randint(0, 300, 3)], 1)
        boxes = np.concatenate([corner, corner + np.stack([random.randint(100, 140, 3), random.randint(60, 90, 3)], 1)],
                               1).astype(float)
        several.append(Labelled(Path('x.jpg'), 900, 500, boxes, random.randint(0, 3, 3)))
    return several


def detections(images: list[Labelled], step: int = 0) -> list[ImageDetections]:
    """Detections at the boxes, off by up to 3 pixels, whose class is `step` after the label."""
    random = np.random.RandomState(2)
    names = list(CLASSES)
    return [ImageDetections(one.boxes + random.randint(-3, 4, one.boxes.shape), np.full(3, 0.8),
                            (one.labels + step) % 3, tuple(names[(label + step) % 3] for label in one.labels))
            for one in images]


def changed(images: list[Labelled], change: Callable[[np.ndarray], np.ndarray]) -> list[Labelled]:
    return [Labelled(one.path, one.width, one.height, change(one.boxes), one.labels) for one in images]


def test_right_labels_lie_on_detections() -> None:
    images = truth()
    found = compare(images, list(CLASSES), detections(images))
    assert (found.decided, found.by, found.boxes) == (AS_THEY_ARE, 'detections', 60)
    assert (found.same_class, found.class_step, found.confused) == (1., 0, {})


def test_detections_tell_how_far_boxes_are_off() -> None:
    images = truth()
    off = changed(images, lambda boxes: np.clip(boxes + [60, -40, 60, -40], 0, [900, 500, 900, 500]))
    found = compare(off, list(CLASSES), detections(images))
    assert found.decided == SHIFTED
    assert found.shift == pytest.approx((60, -40), abs=2)
    assert moved_words((60, -40)) == '60 px right and 40 px up'


@pytest.mark.parametrize('name', ['swapped', 'mirrored', 'upside down'])
def test_detections_tell_boxes_that_were_turned(name: str) -> None:
    """These changes undo themselves."""
    images = truth()
    wrong = changed(images, lambda boxes: CHANGES[name](boxes, 900, 500))
    assert compare(wrong, list(CLASSES), detections(images)).decided == name


def test_detections_tell_centers() -> None:
    images = truth()
    wrong = changed(images, lambda boxes: np.concatenate([
        (boxes[:, :2] + boxes[:, 2:]) / 2, (3 * boxes[:, 2:] - boxes[:, :2]) / 2], 1))
    assert compare(wrong, list(CLASSES), detections(images)).decided == 'centers'


@pytest.mark.parametrize(('step', 'told'), [(1, -1), (2, 1)])
def test_detections_tell_classes_that_are_off_by_one(step: int, told: int) -> None:
    images = truth()
    found = compare(images, list(CLASSES), detections(images, step))
    assert found.decided == AS_THEY_ARE
    assert (found.same_class, found.class_step) == (0., told)
    names = list(CLASSES)
    assert found.confused == {name: names[(index + step) % 3] for index, name in enumerate(names)}


def test_weights_of_other_classes_say_where_boxes_are_only() -> None:
    images = truth()
    found = compare(images, ['one', 'two', 'three'], detections(images))
    assert (found.decided, found.same_class) == (AS_THEY_ARE, None)


def test_weights_that_detect_nothing_say_nothing() -> None:
    images = truth()
    none = ImageDetections(np.zeros((0, 4)), np.zeros(0), np.zeros(0, int), ())
    assert compare(images, list(CLASSES), [none] * len(images)).by == ''
