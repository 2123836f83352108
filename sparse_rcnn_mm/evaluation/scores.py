"""What scores mean: how often a detection with a given score is correct, and which threshold to choose."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .matching import Kind, Matches
from .records import ImageRecord


@dataclass(frozen=True)
class Scores:
    """All detections except those on crowds, best score first, matched at IoU 0.5.

    Attributes:
        scores: (D,).
        correct: (D,) whether each detection is correct.
        total: number of objects.
    """
    scores: np.ndarray
    correct: np.ndarray
    total: int

    @classmethod
    def of(cls, records: Sequence[ImageRecord], matches: Sequence[Matches]) -> Scores:
        """Collect the detections of all images."""
        counted = [matched.kinds != Kind.IGNORED for matched in matches]
        scores = np.concatenate([np.zeros(0), *(record.scores[kept]
                                                for record, kept in zip(records, counted, strict=True))])
        correct = np.concatenate([np.zeros(0, bool), *(matched.kinds[kept] == Kind.CORRECT
                                                       for matched, kept in zip(matches, counted, strict=True))])
        order = np.argsort(-scores, kind='stable')
        return cls(scores[order], correct[order], sum(int((~record.gt_ignored).sum()) for record in records))

    def at_thresholds(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Thresholds 0.01 to 0.99, with precision, recall and F1 at each. Precision is nan without detections."""
        thresholds = np.arange(1, 100) / 100
        kept = np.searchsorted(-self.scores, -thresholds, side='right')
        hits = np.concatenate([[0], np.cumsum(self.correct)])[kept]
        precision = np.divide(hits, kept, out=np.full(len(kept), np.nan), where=kept > 0)
        recall = hits / max(self.total, 1)
        return thresholds, precision, recall, 2 * hits / np.maximum(kept + self.total, 1)

    def best_threshold(self) -> float:
        """The threshold with the best F1, the middle one of ties. It is 0.5 if no detection is correct."""
        thresholds, _, _, f1 = self.at_thresholds()
        best = np.flatnonzero(f1 == f1.max())
        return float(thresholds[best[len(best) // 2]]) if f1.max() > 0 else 0.5

    def calibration(self, bins: int = 10) -> tuple[list[tuple[float, float, int]], float]:
        """Calibration by bins of scores.

        Returns:
            (mean score, share that is correct, number of detections) of each bin, nan where a bin is empty; and the
            expected calibration error (Guo et al., arXiv 1706.04599): the distance between mean score and correct
            share of a bin, averaged over all detections.
        """
        which = np.minimum((self.scores * bins).astype(int), bins - 1)
        rows, error = [], 0.0
        for index in range(bins):
            inside = which == index
            count = int(inside.sum())
            score, part = ((float(self.scores[inside].mean()), float(self.correct[inside].mean())) if count
                           else (float('nan'), float('nan')))
            rows.append((score, part, count))
            error += count * abs(score - part) if count else 0.0
        return rows, error / len(self.scores) if len(self.scores) else float('nan')
