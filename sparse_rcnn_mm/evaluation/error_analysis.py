"""Errors by kind: how many there are, what they cost, and which classes are confused."""
from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from .average_precision import RECALLS
from .matching import ERRORS, Kind, Matches, iou_with_objects, match_greedily
from .records import EvaluatedData, ImageRecord


def count_errors(data: EvaluatedData, records: Sequence[ImageRecord], matches: Sequence[Matches]) -> np.ndarray:
    """Counts (K, 8) for each class: ground truths, correct detections, the five `ERRORS`, missed objects.

    An error counts for the detected class. A missed object counts for its true class.
    """
    counts = np.zeros((len(data.classes), 8), dtype=int)
    for record, matched in zip(records, matches, strict=True):
        np.add.at(counts[:, 0], record.gt_labels[~record.gt_ignored], 1)
        for column, kind in enumerate((Kind.CORRECT, *ERRORS), start=1):
            np.add.at(counts[:, column], record.labels[matched.kinds == kind], 1)
        np.add.at(counts[:, 7], record.gt_labels[matched.missed], 1)
    return counts


def confusion(data: EvaluatedData, records: Sequence[ImageRecord], matches: Sequence[Matches],
              iou_thr: float = 0.5) -> np.ndarray:
    """Counts (K + 1, K + 1) of true class by detected class. The last row is background, the last column is missed.

    Correct pairs are counted first. Then each remaining detection, best score first, takes the remaining object of any
    class that it overlaps most.
    """
    number = len(data.classes)
    matrix = np.zeros((number + 1, number + 1), dtype=int)
    for record, matched in zip(records, matches, strict=True):
        correct = matched.kinds == Kind.CORRECT
        np.add.at(matrix, (record.labels[correct], record.labels[correct]), 1)
        rest = np.flatnonzero(~correct & (matched.kinds != Kind.IGNORED))
        open_gt = np.flatnonzero(~matched.found & ~record.gt_ignored)
        taken = match_greedily(iou_with_objects(record)[np.ix_(rest, open_gt)], iou_thr)
        paired = taken >= 0
        np.add.at(matrix, (record.gt_labels[open_gt[taken[paired]]], record.labels[rest[paired]]), 1)
        np.add.at(matrix[number], record.labels[rest[~paired]], 1)
        np.add.at(matrix[:, number], record.gt_labels[np.delete(open_gt, taken[paired])], 1)
    return matrix


def error_costs(data: EvaluatedData, matches: Sequence[Matches]) -> tuple[float, dict[str, float]]:
    """AP50, and by how much it would rise if one kind of error were fixed (TIDE, section 2.3).

    To fix class or location errors, the best detection of each object that is not found becomes correct, and the other
    detections of this kind are removed. To fix the kinds both, duplicate and background, the detections are removed.
    To fix missed objects, the objects are removed.
    """
    table = _Table(data, matches)
    now = table.ap50()
    fixes: dict[str, Callable[[], float]] = {
        kind.name.lower(): lambda kind=kind: table.ap50(fixed=kind) for kind in ERRORS}  # type: ignore[misc]
    fixes['missed'] = lambda: table.ap50(without_missed=True)
    return now, {name: fix() - now for name, fix in fixes.items()}


class _Table:
    """All detections in one table, best score first."""

    def __init__(self, data: EvaluatedData, matches: Sequence[Matches]) -> None:
        def joined(parts: list[np.ndarray], kind: type = int) -> np.ndarray:
            return np.concatenate([np.zeros(0, kind), *parts]).astype(kind)

        records = data.records
        first = np.cumsum([0, *(len(record.gt_labels) for record in records)])
        scores = joined([record.scores for record in records], float)
        order = np.argsort(-scores, kind='stable')
        self.labels = joined([record.labels for record in records])[order]
        self.kinds = joined([matched.kinds for matched in matches])[order]
        # Position of the object in the list of the objects of all images.
        self.gt = joined([np.where(matched.gt < 0, -1, matched.gt + start)
                          for matched, start in zip(matches, first, strict=False)])[order]
        self.gt_labels = joined([record.gt_labels for record in records])
        self.real = joined([~record.gt_ignored for record in records], bool)
        self.found = joined([matched.found for matched in matches], bool)
        self.missed = joined([matched.missed for matched in matches], bool)

    def ap50(self, fixed: Kind | None = None, without_missed: bool = False) -> float:
        labels, correct = self.labels, self.kinds == Kind.CORRECT
        kept = self.kinds != Kind.IGNORED
        if fixed is not None:
            wrong = self.kinds == fixed
            kept &= ~wrong
            if fixed in (Kind.CLASS, Kind.LOCATION):
                best = self._best_tries(wrong)
                labels = labels.copy()
                labels[best] = self.gt_labels[self.gt[best]]
                correct[best] = kept[best] = True
        counted = self.real & ~self.missed if without_missed else self.real
        totals = np.bincount(self.gt_labels[counted])
        values = [_interpolated(correct[kept & (labels == label)], total)
                  for label, total in enumerate(totals) if total]
        return float(np.mean(values)) if values else float('nan')

    def _best_tries(self, wrong: np.ndarray) -> np.ndarray:
        """For each object that is not found, the best of the detections marked in `wrong`."""
        tries = np.flatnonzero(wrong)
        tries = tries[~self.found[self.gt[tries]]]
        return tries[np.unique(self.gt[tries], return_index=True)[1]]


def _interpolated(correct: np.ndarray, total: int) -> float:
    """COCO's AP: the mean over 101 recalls of the best precision at this recall or a higher one."""
    if not len(correct):
        return 0.0
    hits = np.cumsum(correct)
    recall, precision = hits / total, hits / np.arange(1, len(hits) + 1)
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    index = np.searchsorted(recall, RECALLS, side='left')
    return float(np.where(index < len(precision), precision[np.minimum(index, len(precision) - 1)], 0).mean())
