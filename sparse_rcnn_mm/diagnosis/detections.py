"""Compares labels with the detections of trained weights, which have never seen these labels."""
from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from sparse_rcnn_mm.inference.detector import Detector, ImageDetections

from .hypotheses import AS_THEY_ARE, CHANGES, SHIFTED
from .measurements import Hypothesis, Labels
from .sample import Labelled

SCORE = 0.3  # the lowest score of the detections that are compared
_SIZE = 1.25  # largest ratio of widths and heights between a box and a detection of the same object
_FEWEST = 10  # boxes, and detections, needed for a conclusion
_FITS, _BETTER = 0.5, 0.25  # shares of boxes that the right hypothesis must fit, and must gain over the unchanged boxes


def by_detections(images: Sequence[Labelled], classes: Sequence[str], detector: Detector) -> Labels:
    """Compare the boxes, unchanged and changed, with confident detections. Then compare the classes."""
    found = [detector(one.path).keep(SCORE) for one in images]
    return compare(images, classes, found)


def compare(images: Sequence[Labelled], classes: Sequence[str], found: Sequence[ImageDetections]) -> Labels:
    """Do the same with given detections."""
    boxes = sum(len(one.boxes) for one in images)
    if boxes < _FEWEST or sum(map(len, found)) < _FEWEST:
        return Labels()
    shift = _shift(images, found)
    changed = {name: [change(one.boxes, one.width, one.height) for one in images] for name, change in CHANGES.items()}
    changed[SHIFTED] = [one.boxes - np.tile(shift, 2) for one in images]
    partners = {name: [_partners(moved, detected.boxes) for moved, detected in zip(several, found, strict=True)]
                for name, several in changed.items()}
    fits = {name: float(np.concatenate(several).__ge__(0).mean()) for name, several in partners.items()}
    labels = Labels('detections', boxes, [Hypothesis(name, fit) for name, fit in fits.items()],
                    shift=(round(float(shift[0])), round(float(shift[1]))))
    best = max(fits, key=lambda name: fits[name])
    if fits[AS_THEY_ARE] >= max(_FITS, fits[best] - _BETTER / 2):
        labels.decided = AS_THEY_ARE
    elif fits[best] >= _FITS and fits[best] >= fits[AS_THEY_ARE] + _BETTER:
        labels.decided = best
    _compare_classes(labels, images, classes, found, partners[labels.decided or AS_THEY_ARE])
    return labels


def _partners(boxes: np.ndarray, detected: np.ndarray) -> np.ndarray:
    """Return the detection (n,) that each box overlaps most, and -1 below an IoU of 0.5."""
    if not len(detected):
        return np.full(len(boxes), -1)
    low, high = (choose(boxes[:, None, part], detected[None, :, part]) for choose, part in
                 ((np.maximum, slice(0, 2)), (np.minimum, slice(2, 4))))
    shared = (high - low).clip(0).prod(-1)
    areas = [(group[:, 2:] - group[:, :2]).prod(-1) for group in (boxes, detected)]
    iou = shared / (areas[0][:, None] + areas[1][None] - shared).clip(1e-9)
    return np.where(iou.max(1) >= 0.5, iou.argmax(1), -1)


def _shift(images: Sequence[Labelled], found: Sequence[ImageDetections]) -> np.ndarray:
    """Find the most common offset (2,) to the right and down between boxes and detections of about the same size."""
    distances = np.concatenate([_distances(one.boxes, detected.boxes) for one, detected in
                                zip(images, found, strict=True)])
    if not len(distances):
        return np.zeros(2)
    sides = np.concatenate([one.boxes[:, 2:] - one.boxes[:, :2] for one in images])
    near = max(float(np.median(sides)) / 10, 2.)
    # the pair with the most others close to it
    votes = (np.abs(distances[:, None] - distances[None]) <= near).all(-1)
    return np.median(distances[votes[votes.sum(1).argmax()]], axis=0)


def _distances(boxes: np.ndarray, detected: np.ndarray) -> np.ndarray:
    """Return center offsets (pairs, 2) between all boxes and detections of about the same size."""
    sizes = [np.maximum(group[:, 2:] - group[:, :2], 1) for group in (boxes, detected)]
    ratio = np.abs(np.log(sizes[0][:, None] / sizes[1][None]))
    alike = (ratio <= np.log(_SIZE)).all(-1)
    centers = [(group[:, 2:] + group[:, :2]) / 2 for group in (boxes, detected)]
    return (centers[0][:, None] - centers[1][None])[alike]


def _compare_classes(labels: Labels, images: Sequence[Labelled], classes: Sequence[str],
                     found: Sequence[ImageDetections], partners: Sequence[np.ndarray]) -> None:
    """Compare the class of each label with the class of its detection, if that is one of the data's classes."""
    number = {name: label for label, name in enumerate(classes)}
    pairs = [(int(label), number[detected.names[partner]])
             for one, detected, several in zip(images, found, partners, strict=True)
             for label, partner in zip(one.labels, several, strict=True)
             if partner >= 0 and detected.names[partner] in number]
    if len(pairs) < _FEWEST:
        return
    labels.same_class = float(np.mean([label == seen for label, seen in pairs]))
    steps = Counter((label - seen + len(classes) // 2) % len(classes) - len(classes) // 2 for label, seen in pairs)
    step, count = steps.most_common(1)[0]
    if step and count > len(pairs) / 2:
        labels.class_step = step
    for label, name in enumerate(classes):
        seen = Counter(other for own, other in pairs if own == label)
        if seen and (most := seen.most_common(1)[0][0]) != label and seen[most] * 2 > seen.total():
            labels.confused[name] = classes[most]
