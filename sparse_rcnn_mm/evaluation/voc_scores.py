"""Average precision as the Pascal VOC challenge computes it: `VOCevaldet.m` of its development kits of 2007 and 2012.

The detections of a class are taken by score over all images. Each belongs to the object of its image and class that it
overlaps most. If their IoU reaches the threshold, the first detection of an object is correct and the others are wrong;
a detection of a difficult object is neither. All others are wrong. Unlike in COCO's metric, a detection whose best
object is taken is not tried on another object.
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class ImageOverlaps(NamedTuple):
    """Detections (D) and objects (G) of one class in one image."""
    scores: np.ndarray  # (D,)
    overlaps: np.ndarray  # (D, G) IoU
    difficult: np.ndarray  # (G,) bool


class VocScores(NamedTuple):
    """Average precision of a class in two definitions, NaN without objects; and the number of its objects."""
    area: float  # under the curve, as from 2010 on
    eleven_points: float  # as in 2007
    objects: int


def voc_scores(images: Sequence[ImageOverlaps], iou_thr: float = 0.5) -> VocScores:
    """Compute the average precision of a class. Difficult objects are left out."""
    objects = sum(int((~image.difficult).sum()) for image in images)
    judged = [_judged(image, iou_thr) for image in images]
    scores = np.concatenate([scores for scores, _ in judged]) if judged else np.zeros(0)
    correct = np.concatenate([correct for _, correct in judged]) if judged else np.zeros(0, bool)
    correct = correct[np.argsort(-scores, kind='stable')]
    if not objects:
        return VocScores(float('nan'), float('nan'), 0)
    found = np.cumsum(correct)
    precision = found / np.arange(1, len(correct) + 1)
    return VocScores(_area(precision, found / objects), _eleven_points(precision, found, objects), objects)


def _judged(image: ImageOverlaps, iou_thr: float) -> tuple[np.ndarray, np.ndarray]:
    """The scores of the detections that count, and whether each is correct."""
    taken = np.zeros(len(image.difficult), bool)
    kept, correct = [], []
    for row in np.argsort(-image.scores, kind='stable').tolist():
        best = int(image.overlaps[row].argmax()) if len(taken) else -1
        fits = best >= 0 and image.overlaps[row, best] >= iou_thr
        if fits and image.difficult[best]:
            continue
        kept.append(image.scores[row])
        correct.append(bool(fits and not taken[best]))
        taken[best:best + 1] |= fits
    return np.array(kept, float), np.array(correct, bool)


def _area(precision: np.ndarray, recall: np.ndarray) -> float:
    """The area under the curve, in which precision never increases with recall."""
    highest = np.maximum.accumulate(precision[::-1])[::-1]
    return float((np.diff(recall, prepend=0) * highest).sum())


def _eleven_points(precision: np.ndarray, found: np.ndarray, objects: int) -> float:
    """The mean of the highest precision at a recall of at least 0, 0.1, ..., 1."""
    # In whole numbers, so that 3 of 10 objects are a recall of 0.3. Others compare with 0.30000000000000004.
    reached = (precision[10 * found >= tenths * objects] for tenths in range(11))
    return sum(float(part.max()) if len(part) else 0. for part in reached) / 11
