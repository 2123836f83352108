"""Compares masks with their boxes: a mask may lie elsewhere, belong to another object, or be read in the wrong way."""
from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Sequence
from typing import Any

import numpy as np

from sparse_rcnn_mm.datasets.masks import decode_segmentation, extent
from sparse_rcnn_mm.evaluation.matching import box_iou

from .hypotheses import AS_THEY_ARE, CHANGES, INVERTED, ROW_BY_ROW, SHIFTED
from .measurements import Hypothesis, Masks
from .sample import Labelled

_FEWEST = 5  # masks needed to decide on a hypothesis
_FITS, _BETTER = 0.7, 0.25  # mean IoU that the right hypothesis must reach, and must gain over the unchanged masks
_PLACE = 0.5  # a mask is in the place of a box if their boxes overlap with this IoU
_WHOLE = 0.98  # share of its box that a mask must cover to fill it

# name -> function from a bitmap (height, width) to the corrected bitmap
_BITMAPS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    AS_THEY_ARE: lambda bitmap: bitmap,
    ROW_BY_ROW: lambda bitmap: bitmap.flatten('F').reshape(bitmap.shape),
    INVERTED: lambda bitmap: 1 - bitmap,
}
# These correct the box of the mask instead.
_BOXES = {name: CHANGES[name] for name in ('swapped', 'mirrored', 'upside down')}


def by_boxes(images: Sequence[Labelled]) -> Masks:
    """Compare the masks of the images, unchanged and changed, with their boxes."""
    found = Masks(sum(len(one.boxes) for one in images))
    fits: dict[str, list[np.ndarray]] = {name: [] for name in (*_BITMAPS, *_BOXES)}
    if not any(isinstance(mask, dict) for one in images for mask in one.masks):
        del fits[ROW_BY_ROW]  # all are polygons; in a square image it would equal 'swapped'
    boxes, extents, whole = [], [], []
    broken: list[str] = []
    for one in images:
        bitmaps = dict(decoded(one, broken))
        if not bitmaps:
            continue
        own = one.boxes[list(bitmaps)]
        changed = _changed(list(bitmaps.values()), one.width, one.height, fits)
        for name, several in fits.items():
            several.append(_iou(changed[name], own))
        boxes.append(own)
        extents.append(changed[AS_THEY_ARE])
        whole += [_fills(bitmap, box) for bitmap, box in zip(bitmaps.values(), own, strict=True)]
        _count_places(found, one.boxes, changed[AS_THEY_ARE], list(bitmaps))
    found.masks, found.broken, found.first_broken = len(whole), len(broken), next(iter(broken), '')
    if not found.masks:
        return found
    found.whole = sum(whole)
    found.hypotheses = [Hypothesis(name, float(np.concatenate(several).mean())) for name, several in fits.items()]
    _add_shifted(found, np.concatenate(boxes), np.concatenate(extents))
    _decide(found)
    return found


def decoded(one: Labelled, broken: list[str]) -> Iterator[tuple[int, np.ndarray]]:
    """Yield the index of each box with a mask, and its bitmap. Append a clause to `broken` for each that is invalid."""
    for index, segmentation in enumerate(one.masks):
        if segmentation:
            try:
                yield index, decode_segmentation(segmentation, one.height, one.width)
            except ValueError as error:
                broken.append(f'in {one.path.name} a segmentation {error}')


def _changed(bitmaps: Sequence[np.ndarray], width: int, height: int, names: Container[str]) -> dict[str, np.ndarray]:
    """Return the boxes (n, 4) of the masks by the hypothesis that corrects them. Masks of no pixel have NaN."""
    by_name = {name: np.array([extent(change(bitmap)) for bitmap in bitmaps])
               for name, change in _BITMAPS.items() if name in names}
    return {**by_name, **{name: change(by_name[AS_THEY_ARE], width, height) for name, change in _BOXES.items()}}


def _fills(bitmap: np.ndarray, box: np.ndarray) -> bool:
    x1, y1, x2, y2 = np.rint(box).astype(int).clip(0)
    return bool((inside := bitmap[y1:y2, x1:x2]).sum() >= _WHOLE * inside.size > 0)


def _iou(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return the IoU (n,) of each box with its counterpart. 0 for NaN."""
    shared = (np.minimum(boxes, others)[:, 2:] - np.maximum(boxes, others)[:, :2]).clip(0).prod(-1)
    areas = [(group[:, 2:] - group[:, :2]).prod(-1) for group in (boxes, others)]
    return np.nan_to_num(shared / (areas[0] + areas[1] - shared).clip(1e-9))


def _count_places(found: Masks, boxes: np.ndarray, extents: np.ndarray, owners: Sequence[int]) -> None:
    """Count the masks of an image that are not in their boxes, and those that are in the box of another object."""
    known = ~np.isnan(extents[:, 0])
    found.empty += int((~known).sum())
    iou = box_iou(np.nan_to_num(extents), boxes)
    away = iou[np.arange(len(owners)), list(owners)] < _PLACE
    found.elsewhere += int(away.sum())
    found.of_another += int((away & (iou.max(1) >= _PLACE)).sum())


def _add_shifted(found: Masks, boxes: np.ndarray, extents: np.ndarray) -> None:
    """Add the hypothesis that all masks are off by the median distance between the centers."""
    distances: Any = (extents[:, :2] + extents[:, 2:] - boxes[:, :2] - boxes[:, 2:]) / 2
    if np.isnan(distances).all():
        return
    shift = np.nanmedian(distances, axis=0)
    found.shift = round(float(shift[0])), round(float(shift[1]))
    found.hypotheses.append(Hypothesis(SHIFTED, float(_iou(extents - np.tile(shift, 2), boxes).mean())))


def _decide(found: Masks) -> None:
    fits = {one.name: one.fit for one in found.hypotheses}
    best = max(fits, key=lambda name: fits[name])
    if found.masks < _FEWEST:
        return
    if fits[AS_THEY_ARE] >= fits[best] - _BETTER:
        found.decided = AS_THEY_ARE if fits[AS_THEY_ARE] >= _PLACE else None
    elif fits[best] >= _FITS:
        found.decided = best
