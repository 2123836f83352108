"""AP, log-average miss rate (mMR) and recall for crowds, as the authors of Sparse R-CNN compute them.

Source of the rules: `crowdhumantools/crowdhuman_eval.py` of PeizeSun/SparseR-CNN, which comes from CrowdHuman's own
tools. The miss rate is that of Dollar et al., "Pedestrian Detection: An Evaluation of the State of the Art" (2012).
Where the authors' program ends in an error, the numbers here are what their meaning says:

- A detection on an image without any annotation is wrong. Such an image counts in nothing else: false positives are
  counted per annotated image, whatever was found, so that a further wrong detection never lowers the miss rate.
- Without any detection to judge, AP and recall are 0 and the miss rate is 1.
- Without any ground truth that is not ignored, all are nan.
"""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from .crowd_files import CrowdImage

EPS = 1e-6  # square pixels, added to every area that is divided by
FPPI = (0.0100, 0.0178, 0.03160, 0.0562, 0.1000, 0.1778, 0.3162, 0.5623, 1.000)  # rounded as in the field's tools


def clipped(boxes: np.ndarray, size: tuple[float, float]) -> np.ndarray:
    """(N, 4) inside an image of (width, height); the left and top edge end one pixel before the right and bottom."""
    width, height = size
    low = np.minimum(np.maximum(boxes[:, :2], 0), [width - 1, height - 1])
    return np.concatenate([low, np.maximum(np.minimum(boxes[:, 2:], [width, height]), 0)], axis=1)


def overlaps(boxes: np.ndarray, others: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """IoU (N, M), and IoA (N, M): the shared area as a part of the area of `boxes`."""
    sides = (np.minimum(boxes[:, None, 2:], others[None, :, 2:])
             - np.maximum(boxes[:, None, :2], others[None, :, :2])).clip(min=0)
    shared = sides.prod(axis=-1)
    area, other_area = ((one[:, 2:] - one[:, :2]).prod(axis=-1) for one in (boxes, others))
    return shared / (area[:, None] + other_area - shared + EPS), shared / (area[:, None] + EPS)


class Judged(NamedTuple):
    """The detections that count, by falling score: those on ignored regions are left out."""
    scores: np.ndarray
    correct: np.ndarray


def judge(image: CrowdImage, iou_thr: float) -> Judged:
    """Match the detections of one image, best score first, each to the free ground truth that it overlaps most.

    One that overlaps none by more than `iou_thr` is left out if more than that part of it is in an ignored region.
    """
    order = np.argsort(-image.scores, kind='stable')
    boxes, truths = clipped(image.boxes[order], image.size), clipped(image.gt_boxes, image.size)
    iou, _ = overlaps(boxes, truths[~image.gt_ignored])
    _, ioa = overlaps(boxes, truths[image.gt_ignored])
    correct = np.zeros(len(boxes), dtype=bool)
    for index in np.flatnonzero((iou > iou_thr).any(axis=1)):
        best = iou[index].argmax()
        if iou[index, best] > iou_thr:
            correct[index] = True
            iou[:, best] = 0  # it is taken
    kept = correct | ~(ioa > iou_thr).any(axis=1)
    return Judged(image.scores[order][kept], correct[kept])


@dataclass(frozen=True)
class CrowdScores:
    """The curves along all detections (D) that count, by falling score, and their numbers as fractions.

    Attributes:
        objects: ground truths that are not ignored.
        images: images with annotations.
        scores, correct: (D,)
    """
    objects: int
    images: int
    scores: np.ndarray
    correct: np.ndarray

    @classmethod
    def of(cls, images: Sequence[CrowdImage], iou_thr: float = 0.5) -> CrowdScores:
        """Judge the detections of each image, and put them in one list by score."""
        judged = [judge(image, iou_thr) for image in images]
        scores = np.concatenate([np.zeros(0), *(one.scores for one in judged)])
        correct = np.concatenate([np.zeros(0, dtype=bool), *(one.correct for one in judged)])
        order = np.argsort(-scores, kind='stable')  # equal scores stay in the order of the images
        return cls(sum(int((~image.gt_ignored).sum()) for image in images), sum(image.annotated for image in images),
                   scores[order], correct[order])

    @property
    def recalls(self) -> np.ndarray:
        """(D,) the part of the objects found so far."""
        return np.cumsum(self.correct) / self.objects

    @property
    def precisions(self) -> np.ndarray:
        """(D,) the part of the detections so far that is correct."""
        return np.cumsum(self.correct) / np.arange(1, len(self.correct) + 1)

    @property
    def fppi(self) -> np.ndarray:
        """(D,) false positives so far per image."""
        return np.cumsum(~self.correct) / self.images

    @property
    def ap(self) -> float:
        """The area under precision over recall, in trapezoids from the first detection on, not interpolated."""
        if not self.objects:
            return float('nan')
        return float(np.sum((self.precisions[1:] + self.precisions[:-1]) / 2 * np.diff(self.recalls)))

    @property
    def recall(self) -> float:
        """Of all detections, whatever their score and number."""
        return float(self.correct.sum() / self.objects) if self.objects else float('nan')

    @property
    def miss_rate(self) -> float:
        """The geometric mean of the miss rates at nine numbers of false positives per image; lower is better."""
        if not self.objects:
            return float('nan')
        if not len(self.correct):
            return 1.0
        places = np.minimum(np.searchsorted(self.fppi, FPPI), len(self.correct) - 1)
        with np.errstate(divide='ignore'):  # a miss rate of 0 makes the mean 0
            return float(np.exp(np.log(1 - self.recalls[places]).mean()))
