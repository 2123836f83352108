"""Decides which detections are correct, and what is wrong with the others.

The kinds of errors are those of TIDE (Bolya et al., arXiv 2008.08115, section 2.2).
"""
from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from pycocotools import mask as coco_mask

from .records import ImageRecord


class Kind(IntEnum):
    """What a detection is. IoU thresholds are the defaults of `match`."""
    CORRECT = 0
    CLASS = 1  # IoU >= 0.5 with an object of another class
    LOCATION = 2  # IoU 0.1 to 0.5 with an object of its class
    BOTH = 3  # wrong class and wrong place: IoU 0.1 to 0.5 with an object of another class only
    DUPLICATE = 4  # IoU >= 0.5 with an object of its class that a better detection has found
    BACKGROUND = 5  # IoU below 0.1 with every object
    IGNORED = 6  # inside a crowd


# The kinds that are errors. A missed object is an error too, but it has no detection and therefore no kind.
ERRORS = (Kind.CLASS, Kind.LOCATION, Kind.BOTH, Kind.DUPLICATE, Kind.BACKGROUND)


@dataclass(frozen=True)
class Matches:
    """The matches between the detections (D) and the ground truths (G) of one record, in the order of the record.

    Attributes:
        kinds: (D,) the `Kind` of each detection.
        gt: (D,) the ground truth that the detection matches, or was probably meant for, or -1.
        found: (G,) whether a correct detection exists.
        missed: (G,) whether the object is neither found nor the target of an error of kind `CLASS` or `LOCATION`.
            Crowds are never missed.
    """
    kinds: np.ndarray
    gt: np.ndarray
    found: np.ndarray
    missed: np.ndarray


def match(record: ImageRecord, iou_thr: float = 0.5, background_iou: float = 0.1) -> Matches:
    """Match like COCO: best score first, each detection to the free object of its class with the highest IoU."""
    iou = iou_with_objects(record)
    same = record.labels[:, None] == record.gt_labels[None]
    real = ~record.gt_ignored
    kinds = np.full(len(record.boxes), Kind.CORRECT, dtype=int)
    gt = match_greedily(np.where(same & real, iou, 0), iou_thr)
    found = np.zeros(len(real), dtype=bool)
    found[gt[gt >= 0]] = True
    for index in np.flatnonzero(gt < 0):
        if (iou[index] * (same[index] & ~real) >= iou_thr).any():
            kinds[index] = Kind.IGNORED
        else:
            kinds[index], gt[index] = _error(iou[index], same[index], real, iou_thr, background_iou)
    tried = np.zeros(len(real), dtype=bool)
    tried[gt[np.isin(kinds, (Kind.CLASS, Kind.LOCATION))]] = True
    return Matches(kinds, gt, found, real & ~found & ~tried)


def iou_with_objects(record: ImageRecord) -> np.ndarray:
    """IoU (D, G) of detections and objects. For a crowd, the share of the detection's area that lies inside it."""
    return box_iou(record.boxes, record.gt_boxes, record.gt_ignored)


def box_iou(boxes: np.ndarray, others: np.ndarray, crowd: np.ndarray | None = None) -> np.ndarray:
    """IoU (D, G) of boxes (D, 4) and (G, 4). For a `crowd` (G,), the share of the first box that lies inside it."""
    if not len(boxes) or not len(others):
        return np.zeros((len(boxes), len(others)))
    crowd = np.zeros(len(others)) if crowd is None else crowd
    return np.asarray(coco_mask.iou(_xywh(boxes), _xywh(others), crowd.astype(np.uint8)))


def match_greedily(iou: np.ndarray, iou_thr: float) -> np.ndarray:
    """The column (D,) that each row of `iou` (D, G) takes, or -1. Earlier rows choose first."""
    iou = iou.copy()
    taken = np.full(len(iou), -1)
    for index in range(len(iou) if iou.size else 0):
        best = iou[index].argmax()
        if iou[index, best] >= iou_thr:
            taken[index] = best
            iou[:, best] = 0
    return taken


def _error(iou: np.ndarray, same: np.ndarray, real: np.ndarray, iou_thr: float,
           background_iou: float) -> tuple[Kind, int]:
    """The kind of an unmatched detection, tested in TIDE's order, and the object it was probably meant for, or -1."""
    own, other = iou * (same & real), iou * (~same & real)
    if not iou.size or max(own.max(), other.max()) < background_iou:
        return Kind.BACKGROUND, -1
    if background_iou <= own.max() < iou_thr:
        return Kind.LOCATION, int(own.argmax())
    if other.max() >= iou_thr:
        return Kind.CLASS, int(other.argmax())
    if own.max() >= iou_thr:
        return Kind.DUPLICATE, int(own.argmax())
    return Kind.BOTH, int(other.argmax())


def _xywh(boxes: np.ndarray) -> np.ndarray:
    return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)
