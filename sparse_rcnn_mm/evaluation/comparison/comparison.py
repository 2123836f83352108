"""Runs two detectors on the same images and compares what they find."""
from __future__ import annotations

import statistics
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import compress
from typing import Any

import numpy as np

from sparse_rcnn_mm.datasets.masks import run_lengths
from sparse_rcnn_mm.datasets.read_image import read_image
from sparse_rcnn_mm.errors import UserError
from sparse_rcnn_mm.inference.detections import ImageDetections, ImageDetector
from sparse_rcnn_mm.inference.progress import complain, progress_bar

from ..analysis import Analysis
from ..average_precision import AveragePrecision
from ..records import EvaluatedData, ImageRecord, record_of
from .agreement import Agreement, SharedClasses, agree
from .side import Side
from .subject import Subject

SCORE_THR = 0.3  # used if there is no ground truth to choose a threshold from
Pair = tuple[float | None, float | None]


@dataclass
class Comparison:
    """What two detectors, A and B, find on the same images.

    Attributes:
        sides: A and B.
        classes: the classes that both know. All detections belong to these.
        subject: the images.
        analyses: the detections of A and of B, with the ground truth if there is any.
        seconds: (images, 2) time from pixels to detections, measured one image at a time.
        others: the number of detections left out because the other detector does not know their class, by class.
    """
    sides: tuple[Side, Side]
    classes: SharedClasses
    subject: Subject
    analyses: tuple[Analysis, Analysis]
    seconds: np.ndarray
    others: tuple[Counter[str], Counter[str]]

    @classmethod
    def run(cls, sides: tuple[Side, Side], classes: SharedClasses, subject: Subject,
            score_thr: Pair = (None, None)) -> Comparison:
        """Run both detectors on every image.

        Args:
            score_thr: detections of A and B below this score are not compared. Default: the threshold with the best F1,
                or `SCORE_THR` without ground truth.

        Raises:
            UserError: no image can be read, or an image of an annotated data set cannot be read.
        """
        found, seconds = _detect(sides, subject)
        annotations, label_of = subject.annotations(), {label + 1: label for label in range(len(classes.names))}
        analyses, others = [], []
        for side, threshold in enumerate(score_thr):
            records, left_out = [], []
            for image_id, both in found.items():
                one, masks = both[side]
                labels = classes.labels(one.names)
                known = labels >= 0
                kept = {'bboxes': one.boxes[known], 'scores': one.scores[known], 'labels': labels[known]}
                records.append(record_of(image_id, subject.paths[image_id], kept, annotations[image_id], label_of,
                                         masks and list(compress(masks, known))))
                left_out += [(one.names[i], one.scores[i]) for i in np.flatnonzero(~known)]
            data = EvaluatedData(classes.names, tuple(label_of), subject.coco, records)
            analysis = Analysis.of(data, SCORE_THR if threshold is None and not subject.annotated else threshold)
            analyses.append(analysis)
            others.append(Counter(name for name, score in left_out if score >= analysis.score_thr))
        return cls(sides, classes, subject, (analyses[0], analyses[1]), seconds, (others[0], others[1]))

    @cached_property
    def agreements(self) -> list[Agreement]:
        """How the detections above the thresholds match, for each image."""
        return [agree(a, b) for a, b in zip(*(analysis.records for analysis in self.analyses), strict=True)]

    @cached_property
    def mask_average_precisions(self) -> tuple[AveragePrecision | None, AveragePrecision | None]:
        """Mask AP of A and of B; None for a model without masks, and for both if the data have none."""
        a, b = (analysis.mask_ap if self.subject.annotated else None for analysis in self.analyses)
        return a, b

    def order(self) -> list[int]:
        """Indices of the images, most disagreements first. Ties are ordered by score, the most certain first."""
        ranks = [(-one.disagreements, -self._certainty(index, one), index)
                 for index, one in enumerate(self.agreements)]
        return [index for *_, index in sorted(ranks)]

    def _certainty(self, index: int, one: Agreement) -> float:
        a, b = (analysis.records[index].scores for analysis in self.analyses)
        return float(a[one.only[0]].sum() + b[one.only[1]].sum() + a[one.other_class[:, 0]].sum()
                     + b[one.other_class[:, 1]].sum())

    def records(self, index: int) -> tuple[ImageRecord, ImageRecord]:
        """The detections of A and B on one image that reach their thresholds."""
        a, b = (analysis.records[index] for analysis in self.analyses)
        return a, b

    def speed(self) -> tuple[float, float, float]:
        """Median seconds per image of A and of B, and the median ratio of A's time to B's."""
        a, b = self.seconds.T.tolist()
        return statistics.median(a), statistics.median(b), statistics.median(map(float.__truediv__, a, b))


# Detections without their bitmaps, and the run lengths of their masks.
Seen = tuple[ImageDetections, list[dict[str, Any]] | None]


def _detect(sides: Sequence[Side], subject: Subject) -> tuple[dict[int, list[Seen]], np.ndarray]:
    """Return the detections of A and B by image id, and the seconds (images, 2). A and B take turns at going first."""
    detectors = [side.detector for side in sides]
    found: dict[int, list[Seen]] = {}
    seconds = []
    with progress_bar(len(subject.paths)) as bar:
        for image_id, path in subject.paths.items():
            try:
                image = read_image(path)
            except UserError as error:
                if subject.annotated:
                    raise
                complain(f'skipped: {error}')
                continue
            if not found:  # warmup: the first pass of a network takes longer
                for detector in detectors:
                    _timed(detector, image)
            order = (0, 1) if len(found) % 2 == 0 else (1, 0)
            done = {side: _timed(detectors[side], image) for side in order}
            found[image_id] = [_without_bitmaps(done[side][0]) for side in (0, 1)]
            seconds.append([done[side][1] for side in (0, 1)])
            bar.update(1)
    if not found:
        raise UserError(f'none of the {len(subject.paths)} images of {subject.name} can be read')
    return found, np.array(seconds)


def _without_bitmaps(found: ImageDetections) -> Seen:
    """Replace the bitmaps, which take the memory of an image for each detection, by run lengths."""
    return replace(found, masks=None), None if found.masks is None else [run_lengths(mask) for mask in found.masks]


def _timed(detector: ImageDetector, image: np.ndarray) -> tuple[ImageDetections, float]:
    start = time.perf_counter()
    detections = detector.detect([detector.prepare(image)])[0]
    return detections, time.perf_counter() - start
