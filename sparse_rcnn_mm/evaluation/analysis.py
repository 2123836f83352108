"""All numbers that `sparse-rcnn analyze` reports."""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from .average_precision import RECALLS, AveragePrecision, average_precision
from .error_analysis import confusion, count_errors, error_costs
from .matching import ERRORS, Matches, match
from .records import EvaluatedData, ImageRecord
from .scores import Scores

ERROR_NAMES = (*(kind.name.lower() for kind in ERRORS), 'missed')


@dataclass
class Analysis:
    """The numbers about the detections on some images.

    Counts (errors, confusion, worst images) use IoU 0.5 and the detections with a score of at least `score_thr`.
    AP, costs of errors and calibration use all detections.
    """
    data: EvaluatedData
    score_thr: float
    all_matches: list[Matches]

    @classmethod
    def of(cls, data: EvaluatedData, score_thr: float | None = None) -> Analysis:
        """Analyze `data`. Without `score_thr`, the threshold with the best F1 is used."""
        matches = [match(record) for record in data.records]
        if score_thr is None:
            score_thr = Scores.of(data.records, matches).best_threshold()
        return cls(data, score_thr, matches)

    @cached_property
    def scores(self) -> Scores:
        """All detections, whatever their score."""
        return Scores.of(self.data.records, self.all_matches)

    @cached_property
    def records(self) -> list[ImageRecord]:
        """The images with only the detections that reach the threshold."""
        return [record.above(self.score_thr) for record in self.data.records]

    @cached_property
    def matches(self) -> list[Matches]:
        """The matches of the detections that reach the threshold."""
        return [match(record) for record in self.records]

    @cached_property
    def ap(self) -> AveragePrecision:
        """COCO's AP, by class and by box size."""
        return average_precision(self.data)

    @cached_property
    def mask_ap(self) -> AveragePrecision | None:
        """The same for masks; None if the detections or the data have none."""
        return average_precision(self.data, masks=True) if self.data.has_masks else None

    @cached_property
    def counts(self) -> np.ndarray:
        """(K, 8) counts of errors; see `count_errors`."""
        return count_errors(self.data, self.records, self.matches)

    @cached_property
    def costs(self) -> dict[str, float]:
        """How much AP50 each kind of error costs; see `error_costs`."""
        return error_costs(self.data, self.all_matches)[1]

    @cached_property
    def confusion(self) -> np.ndarray:
        """(K + 1, K + 1) counts of true class by detected class; see `error_analysis.confusion`."""
        return confusion(self.data, self.records, self.matches)

    def worst(self, number: int) -> list[int]:
        """Positions of the images with the most errors. In a tie, confident wrong detections come first."""
        ranks = []
        for index, (record, matched) in enumerate(zip(self.records, self.matches, strict=True)):
            wrong = np.isin(matched.kinds, ERRORS)
            errors = int(wrong.sum() + matched.missed.sum())
            if errors:
                ranks.append((-errors, -float(record.scores[wrong].sum()), index))
        return [index for *_, index in sorted(ranks)[:number]]

    def errors_of(self, index: int) -> dict[str, int]:
        """The number of errors of one image, by kind. Kinds that it does not have are left out."""
        matched = self.matches[index]
        counts = {kind.name.lower(): int((matched.kinds == kind).sum()) for kind in ERRORS}
        counts['missed'] = int(matched.missed.sum())
        return {name: count for name, count in counts.items() if count}


def as_numbers(analysis: Analysis, worst: int) -> dict[str, Any]:
    """The numbers of the JSON file, with the `worst` worst images."""
    thresholds, precision, recall, f1 = analysis.scores.at_thresholds()
    bins, expected_error = analysis.scores.calibration()
    return {
        'images': len(analysis.data.records),
        'boxes': int(analysis.counts[:, 0].sum()),
        'detections': len(analysis.scores.scores),
        'score_threshold': analysis.score_thr,
        'overall': analysis.ap.overall,
        **({'masks': analysis.mask_ap.overall} if analysis.mask_ap else {}),
        'classes': _by_class(analysis),
        'precision_recall': {'recall': RECALLS, **{
            f'precision at IoU {iou}': dict(zip(analysis.data.classes, curves, strict=True))
            for iou, curves in analysis.ap.curves.items()}},
        'sizes': [{'from': low, 'to': high, 'AP': ap, 'boxes': count} for low, high, ap, count in analysis.ap.sizes],
        'errors': _errors(analysis),
        'confusion': {'classes': [*analysis.data.classes, 'background'], 'true_by_detected': analysis.confusion},
        'scores': {'threshold': thresholds, 'precision': precision, 'recall': recall, 'F1': f1},
        'calibration': {'expected_error': expected_error, 'bins': [
            {'score': score, 'correct': part, 'detections': count} for score, part, count in bins]},
        'worst_images': [{'image_id': analysis.records[index].image_id, 'path': analysis.records[index].path,
                          'errors': analysis.errors_of(index)} for index in analysis.worst(worst)],
    }


def _errors(analysis: Analysis) -> dict[str, Mapping[str, float]]:
    return {name: {'count': int(count), 'AP50_if_right': analysis.costs[name]}
            for name, count in zip(ERROR_NAMES, analysis.counts[:, 2:].sum(axis=0), strict=True)}


def _by_class(analysis: Analysis) -> dict[str, dict[str, float]]:
    rows = {}
    for name, (ap, ap50, ap75), counts in zip(analysis.data.classes, analysis.ap.classes, analysis.counts, strict=True):
        boxes, correct, *errors = (int(count) for count in counts)
        detected = correct + sum(errors[:-1])
        rows[name] = {'boxes': boxes, 'AP': ap, 'AP50': ap50, 'AP75': ap75,
                      'precision': correct / detected if detected else float('nan'),
                      'recall': correct / boxes if boxes else float('nan'), 'correct': correct,
                      **dict(zip(ERROR_NAMES, errors, strict=True))}
    return rows
