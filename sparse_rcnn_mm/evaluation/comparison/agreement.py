"""What two detectors agree on: the classes that both know, and the detections that both have."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sparse_rcnn_mm.errors import UserError

from ..matching import box_iou
from ..records import ImageRecord


@dataclass(frozen=True)
class SharedClasses:
    """The classes of two detectors, matched by name.

    Attributes:
        names: the classes that both know, in the order of the first. The compared detections have these labels.
        only: the classes that only the first detector knows, and those that only the second knows.
    """
    names: tuple[str, ...]
    only: tuple[tuple[str, ...], tuple[str, ...]]

    @classmethod
    def of(cls, first: Sequence[str], second: Sequence[str]) -> SharedClasses:
        """Match the class names of two detectors.

        Raises:
            UserError: no class has the same name in both.
        """
        names = tuple(name for name in dict.fromkeys(first) if name in second)
        if not names:
            raise UserError(f'the models have no class in common: A knows {_some(first)}; B knows {_some(second)}')
        return cls(names, (tuple(name for name in dict.fromkeys(first) if name not in names),
                           tuple(name for name in dict.fromkeys(second) if name not in names)))

    def labels(self, names: Sequence[str]) -> np.ndarray:
        """Return the label (D,) of each class name, and -1 for a class that only one detector knows."""
        label_of = {name: label for label, name in enumerate(self.names)}
        return np.array([label_of.get(name, -1) for name in names], dtype=int)


def _some(names: Sequence[str], most: int = 5) -> str:
    return ', '.join(names[:most]) + (f', ... ({len(names) - most} more)' if len(names) > most else '')


@dataclass(frozen=True)
class Agreement:
    """How the detections of A and B on one image match. Each detection is in exactly one of the four groups.

    Attributes:
        both: (n, 2) indices in A and in B: IoU of at least 0.5, and the same class.
        other_class: (m, 2) indices of the remaining pairs: IoU of at least 0.5, but different classes.
        only: the indices of detections that only A has, and of those that only B has.
    """
    both: np.ndarray
    other_class: np.ndarray
    only: tuple[np.ndarray, np.ndarray]

    @property
    def disagreements(self) -> int:
        """The number of unmatched detections, plus the number of pairs with different classes."""
        return len(self.other_class) + len(self.only[0]) + len(self.only[1])


def agree(a: ImageRecord, b: ImageRecord, iou_thr: float = 0.5) -> Agreement:
    """Match the detections in two records of one image: first within each class, then the rest."""
    iou = box_iou(a.boxes, b.boxes)
    same = a.labels[:, None] == b.labels[None]
    both = pairs_by_iou(np.where(same, iou, 0), iou_thr)
    rest = iou.copy()
    rest[both[:, 0]] = 0
    rest[:, both[:, 1]] = 0
    other_class = pairs_by_iou(rest, iou_thr)
    paired = np.concatenate([both, other_class])
    return Agreement(both, other_class, (np.setdiff1d(np.arange(len(a.boxes)), paired[:, 0]),
                                         np.setdiff1d(np.arange(len(b.boxes)), paired[:, 1])))


def pairs_by_iou(iou: np.ndarray, iou_thr: float) -> np.ndarray:
    """Match rows and columns of `iou` (D, G), highest IoU first. Returns pairs (n, 2). Symmetric in A and B."""
    rows, columns = np.nonzero(iou >= iou_thr)
    free_rows, free_columns = (np.ones(size, dtype=bool) for size in iou.shape)
    pairs = []
    for index in np.argsort(-iou[rows, columns], kind='stable'):
        row, column = rows[index], columns[index]
        if free_rows[row] and free_columns[column]:
            free_rows[row] = free_columns[column] = False
            pairs.append((row, column))
    return np.array(pairs, dtype=int).reshape(-1, 2)
