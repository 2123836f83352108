"""AP, log-average miss rate (mMR) and recall on crowds, computed as by the authors of Sparse R-CNN.

Source of the rules: `crowdhumantools/crowdhuman_eval.py` of PeizeSun/SparseR-CNN, which comes from CrowdHuman's own
tools. The miss rate is that of Dollar et al., "Pedestrian Detection: An Evaluation of the State of the Art" (2012).
Where the authors' program fails, the numbers here follow from the definitions:

- A detection on an image without annotations is wrong. Otherwise such an image does not count: false positives are
  counted per annotated image, so an extra wrong detection never lowers the miss rate.
- Without any detections that count, AP and recall are 0 and the miss rate is 1.
- If there is no ground truth, or all of it is ignored, all three are nan.
"""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from .crowd_files import CrowdImage

EPS = 1e-6  # square pixels, added to every area in a denominator
FPPI = (0.0100, 0.0178, 0.03160, 0.0562, 0.1000, 0.1778, 0.3162, 0.5623, 1.000)  # rounded as in other tools


def clipped(boxes: np.ndarray, size: tuple[float, float]) -> np.ndarray:
    """Clip boxes (N, 4) to an image of (width, height). x1 and y1 are at most width - 1 and height - 1."""
    width, height = size
    low = np.minimum(np.maximum(boxes[:, :2], 0), [width - 1, height - 1])
    return np.concatenate([low, np.maximum(np.minimum(boxes[:, 2:], [width, height]), 0)], axis=1)


def overlaps(boxes: np.ndarray, others: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Compute the IoU (N, M), and the IoA (N, M): the intersection divided by the area of `boxes`."""
    sides = (np.minimum(boxes[:, None, 2:], others[None, :, 2:])
             - np.maximum(boxes[:, None, :2], others[None, :, :2])).clip(min=0)
    shared = sides.prod(axis=-1)
    area, other_area = ((one[:, 2:] - one[:, :2]).prod(axis=-1) for one in (boxes, others))
    return shared / (area[:, None] + other_area - shared + EPS), shared / (area[:, None] + EPS)


class Judged(NamedTuple):
    """The detections that count, by descending score. Those on ignored regions are left out."""
    scores: np.ndarray
    correct: np.ndarray


def judge(image: CrowdImage, iou_thr: float) -> Judged:
    """Match the detections of one image, best score first, each to the free ground truth that it overlaps most.

    A detection without a match at `iou_thr` is left out if its IoA with an ignored region exceeds `iou_thr`.
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
            iou[:, best] = 0  # already matched
    kept = correct | ~(ioa > iou_thr).any(axis=1)
    return Judged(image.scores[order][kept], correct[kept])


@dataclass(frozen=True)
class CrowdScores:
    """Curves over all D detections that count, by descending score, and the metrics as fractions.

    Attributes:
        objects: the number of ground truths that are not ignored.
        images: the number of images with annotations.
        scores, correct: (D,)
    """
    objects: int
    images: int
    scores: np.ndarray
    correct: np.ndarray

    @classmethod
    def of(cls, images: Sequence[CrowdImage], iou_thr: float = 0.5) -> CrowdScores:
        """Judge the detections of each image, and sort all of them by score."""
        judged = [judge(image, iou_thr) for image in images]
        scores = np.concatenate([np.zeros(0), *(one.scores for one in judged)])
        correct = np.concatenate([np.zeros(0, dtype=bool), *(one.correct for one in judged)])
        order = np.argsort(-scores, kind='stable')  # equal scores stay in the order of the images
        return cls(sum(int((~image.gt_ignored).sum()) for image in images), sum(image.annotated for image in images),
                   scores[order], correct[order])

    @property
    def recalls(self) -> np.ndarray:
        """Fraction of the objects found so far: (D,)."""
        return np.cumsum(self.correct) / self.objects

    @property
    def precisions(self) -> np.ndarray:
        """Fraction of correct detections so far: (D,)."""
        return np.cumsum(self.correct) / np.arange(1, len(self.correct) + 1)

    @property
    def fppi(self) -> np.ndarray:
        """False positives per image so far: (D,)."""
        return np.cumsum(~self.correct) / self.images

    @property
    def ap(self) -> float:
        """Area under the uninterpolated precision-recall curve, by the trapezoidal rule from the first detection on."""
        if not self.objects:
            return float('nan')
        return float(np.sum((self.precisions[1:] + self.precisions[:-1]) / 2 * np.diff(self.recalls)))

    @property
    def recall(self) -> float:
        """Recall of all detections, whatever their score and number."""
        return float(self.correct.sum() / self.objects) if self.objects else float('nan')

    @property
    def miss_rate(self) -> float:
        """Geometric mean of the miss rates at nine values of false positives per image; lower is better."""
        if not self.objects:
            return float('nan')
        if not len(self.correct):
            return 1.0
        places = np.minimum(np.searchsorted(self.fppi, FPPI), len(self.correct) - 1)
        with np.errstate(divide='ignore'):  # a miss rate of 0 makes the mean 0
            return float(np.exp(np.log(1 - self.recalls[places]).mean()))
