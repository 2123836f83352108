"""COCO's AP: overall, by class, by box size, and the curves behind it."""
from __future__ import annotations

import contextlib
import io
import itertools
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from .mask_truth import mask_truth
from .records import EvaluatedData, ImageRecord

# COCO's range of areas for boxes of all sizes.
_ALL = (0.0, 1e10)
# COCO's small, medium and large, as square roots of areas in pixels.
SIZES = {'small': (0, 32), 'medium': (32, 96), 'large': (96, 1e5)}
_BINS = (0, 8, 16, 32, 48, 64, 96, 128, 192, 256, 384, 1e5)
_KEYS = {'bbox': 'bbox', 'segm': 'segmentation'}  # of a detection, by pycocotools' kind of evaluation
RECALLS = np.linspace(0, 1, 101)


@dataclass(frozen=True)
class AveragePrecision:
    """AP averaged over IoU 0.5 to 0.95, for K classes. It is nan where there is no ground truth.

    Attributes:
        overall: `AP`, `AP50`, `AP75`, `AP_small`, `AP_medium`, `AP_large`, as `sparse-rcnn test` prints them.
        classes: (K, 3) AP, AP50 and AP75 of each class.
        curves: IoU -> (K, 101) precision at each recall of `RECALLS`.
        sizes: (smallest side, largest side, AP, number of boxes) of each bin that has boxes. The side is the square
            root of the area that the annotation states, which in COCO is that of the mask.
    """
    overall: dict[str, float]
    classes: np.ndarray
    curves: dict[float, np.ndarray]
    sizes: list[tuple[float, float, float, int]]


def average_precision(data: EvaluatedData, max_detections: int = 1000, masks: bool = False) -> AveragePrecision:
    """Evaluate with pycocotools on the images of `data` only.

    Args:
        masks: compare masks instead of boxes. Every record must have `masks`. Boxes without a mask are crowds then.
    """
    if masks:
        data = replace(data, coco={**data.coco, 'annotations': mask_truth(data.coco)})
    sides = np.sqrt([annotation['area'] for annotation in data.coco['annotations'] if not annotation['iscrowd']])
    bins = [(low, high) for low, high in itertools.pairwise(_BINS)
            if ((sides >= low) & (sides < high)).any()]
    ranges = [_ALL, *((low ** 2, high ** 2) for low, high in [*SIZES.values(), *bins])]
    precision = _precision(data, ranges, max_detections, 'segm' if masks else 'bbox')
    ap = {iou: precision[index, :, :, 0].mean(axis=0) for iou, index in ((50, 0), (75, 5))}
    by_range = [_mean(precision[:, :, :, index]) for index in range(len(ranges))]
    overall = {'AP': by_range[0], 'AP50': _mean(ap[50]), 'AP75': _mean(ap[75]),
               **{f'AP_{name}': by_range[1 + index] for index, name in enumerate(SIZES)}}
    counts = [int(((sides >= low) & (sides < high)).sum()) for low, high in bins]
    return AveragePrecision(
        overall,
        np.stack([precision[:, :, :, 0].mean(axis=(0, 1)), ap[50], ap[75]], axis=1),
        {iou: precision[index, :, :, 0].T for iou, index in ((0.5, 0), (0.75, 5), (0.9, 8))},
        [(low, high, by_range[1 + len(SIZES) + index], counts[index]) for index, (low, high) in enumerate(bins)])


def _precision(data: EvaluatedData, ranges: list[tuple[float, float]], max_detections: int, kind: str) -> np.ndarray:
    """Precision (10 IoUs, 101 recalls, K classes in label order, ranges). It is nan where there is no ground truth."""
    truth = COCO()
    truth.dataset = {key: [dict(entry) for entry in entries] for key, entries in data.coco.items()}
    truth.dataset['info'] = {}
    detections = [
        {'image_id': record.image_id, 'category_id': data.cat_ids[label], 'score': float(score), _KEYS[kind]: place}
        for record in data.records
        for place, score, label in zip(_places(record, kind), record.scores, record.labels, strict=True)]
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        # loadRes raises an error on an empty list.
        found = truth.loadRes(detections) if detections else COCO()
        evaluation = COCOeval(truth, found, kind)
        evaluation.params.imgIds = [record.image_id for record in data.records]
        evaluation.params.catIds = list(data.cat_ids)
        evaluation.params.maxDets = [max_detections]
        evaluation.params.areaRng = [list(area) for area in ranges]
        evaluation.params.areaRngLbl = [str(index) for index in range(len(ranges))]
        evaluation.evaluate()
        evaluation.accumulate()
    # pycocotools orders classes by category id, not by label.
    rank = np.argsort(np.argsort(data.cat_ids))
    precision = evaluation.eval['precision'][..., 0][:, :, rank]
    return np.where(precision < 0, np.nan, precision)


def _places(record: ImageRecord, kind: str) -> Sequence[Any]:
    """Return the box of each detection as x, y, width, height, or its mask."""
    if kind == 'segm':
        assert record.masks is not None
        return record.masks
    return np.concatenate([record.boxes[:, :2], record.boxes[:, 2:] - record.boxes[:, :2]], 1).tolist()


def _mean(values: np.ndarray) -> float:
    """The mean of all values that are not nan, or nan if there are none."""
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', RuntimeWarning)
        return float(np.nanmean(values))


def mean_over_classes(curves: np.ndarray) -> np.ndarray:
    """The mean (101,) of the curves (K, 101) of the classes that have ground truth."""
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', RuntimeWarning)
        return np.nanmean(curves, axis=0)
