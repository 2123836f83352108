"""Compares boxes with the edges in their images, for data whose objects no trained weights detect.

If objects stand out from their surroundings, the borders of correct boxes lie on edges more often than those of the
same boxes elsewhere. In photographs the effect is often too weak; then nothing is decided.
"""
from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

from sparse_rcnn_mm.datasets.read_image import read_image

from .hypotheses import AS_THEY_ARE, CHANGES, SHIFTED
from .measurements import Hypothesis, Labels
from .sample import Labelled

_SIDE = 256  # length in pixels of the longer side of the resized images
_BAND = 3  # width in pixels of the bands on both sides of a border, whose means are compared
_REACH, _STEP = 60, 3  # of the shifts to try, in pixels of the resized images
_MOST_BOXES = 150
_CLEARER = 1.5  # how many times the contrast another hypothesis needs
_SURE = 5.0  # how many standard errors it needs, on boxes that were not used to choose it


class _Edges:
    """Contrast across vertical and horizontal lines of an image, as cumulative sums: each line takes one lookup."""

    def __init__(self, image: np.ndarray) -> None:
        picture = Image.fromarray(image)
        self.scale = _SIDE / max(picture.size)
        size = [max(round(side * self.scale), 4 * _BAND) for side in picture.size]
        pixels = np.asarray(picture.resize(size, Image.Resampling.BOX if self.scale < 1 else
                                           Image.Resampling.BILINEAR), np.float32)
        across = _contrast(pixels.swapaxes(0, 1)).T, _contrast(pixels)
        self.vertical, self.horizontal = (
            np.cumsum(np.pad(one / (one.mean() + 1e-6), pad), axis)
            for one, axis, pad in zip(across, (0, 1), (((1, 0), (0, 0)), ((0, 0), (1, 0))), strict=True))
        self.height, self.width = pixels.shape[:2]

    def under(self, boxes: np.ndarray) -> np.ndarray:
        """Return the mean contrast (...) under the sides of boxes (..., 4) inside the image. NaN if none is inside."""
        x1, y1, x2, y2 = np.moveaxis(np.rint(boxes * self.scale).astype(int), -1, 0)
        sides = [_along(self.vertical, x, y1, y2, self.width, self.height) for x in (x1, x2)]
        sides += [_along(self.horizontal.T, y, x1, x2, self.height, self.width) for y in (y1, y2)]
        total, count = (np.sum(values, axis=0) for values in zip(*sides, strict=True))
        return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _contrast(pixels: np.ndarray) -> np.ndarray:
    """Return the difference (H, W) between the means of the rows above and below, summed over channels."""
    sums = np.cumsum(np.pad(pixels, ((1, 0), (0, 0), (0, 0))), 0)
    found = np.zeros(pixels.shape[:2], np.float32)
    above, middle, below = sums[:-2 * _BAND], sums[_BAND:-_BAND], sums[2 * _BAND:]
    found[_BAND:_BAND + len(middle)] = np.abs(above + below - 2 * middle).mean(2)[:len(found) - _BAND]
    return found


def _along(sums: np.ndarray, place: np.ndarray, start: np.ndarray, end: np.ndarray, places: int,
           length: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean along one side of each box, and whether enough of it is inside the image."""
    start, end = start.clip(0, length), end.clip(0, length)
    inside = (place >= _BAND) & (place < places - _BAND) & (end - start >= _BAND)
    place = place.clip(0, places - 1)
    return np.where(inside, (sums[end, place] - sums[start, place]) / np.maximum(end - start, 1), 0), inside


def by_edges(images: Sequence[Labelled]) -> Labels:
    """Compare the boxes, unchanged and changed, with the edges of their images."""
    shifts = _shifts(images)
    changed: list[np.ndarray] = []
    shifted: list[np.ndarray] = []
    for one in images:
        if sum(map(len, changed)) >= _MOST_BOXES:
            break
        edges = _Edges(read_image(one.path))
        changed.append(np.stack([edges.under(change(one.boxes, one.width, one.height))
                                 for change in CHANGES.values()], 1))
        shifted.append(edges.under(one.boxes[:, None] + np.tile(shifts, 2)))
    if not changed:
        return Labels()
    return _decide(np.concatenate(changed), np.concatenate(shifted), shifts)


def _shifts(images: Sequence[Labelled]) -> np.ndarray:
    """Return shifts (S, 2) in pixels of the original images, up to about a quarter of their longer side."""
    side = float(np.median([max(one.width, one.height) for one in images])) if images else 1.
    steps = np.arange(-_REACH, _REACH + 1, _STEP) * side / _SIDE
    return np.stack(np.meshgrid(steps, steps, indexing='ij'), -1).reshape(-1, 2)


def _decide(changed: np.ndarray, shifted: np.ndarray, shifts: np.ndarray) -> Labels:
    """Decide from the contrasts of the same boxes, changed (n, changes) and shifted (n, S)."""
    plain = changed[:, 0]
    means = dict(zip(CHANGES, _mean(changed), strict=True))
    first, second = shifted[::2], shifted[1::2]
    place = int(np.argmax(_mean(first))) if len(first) else 0
    found = Labels('edges', len(plain), [Hypothesis(name, float(fit)) for name, fit in means.items()])
    found.hypotheses.append(Hypothesis(SHIFTED, float(_mean(shifted[:, [place]])[0])))
    found.shift = _meant(shifts[place])
    surely = {name: _standard_errors(changed[:, index] - plain) for index, name in enumerate(CHANGES)}
    surely[SHIFTED] = _standard_errors(second[:, place] - plain[1::2])
    best = max(found.hypotheses, key=lambda one: one.fit)
    elsewhere = float(np.median(_mean(shifted)))
    if best.fit > _CLEARER * means[AS_THEY_ARE] and surely[best.name] > _SURE:
        found.decided = best.name
    elif means[AS_THEY_ARE] > _CLEARER * elsewhere and means[AS_THEY_ARE] * _CLEARER > best.fit:
        found.decided = AS_THEY_ARE
    return found


def _meant(change: np.ndarray) -> tuple[int, int]:
    """Return the error of the labels that `change` corrects."""
    return -round(float(change[0])), -round(float(change[1]))


def _mean(values: np.ndarray) -> np.ndarray:
    """Average over the boxes, ignoring NaN. 0 if there are none."""
    known = ~np.isnan(values)
    return np.where(known, values, 0).sum(0) / np.maximum(known.sum(0), 1)


def _standard_errors(differences: np.ndarray) -> float:
    differences = differences[~np.isnan(differences)]
    if len(differences) < 10:
        return 0.
    return float(differences.mean() / (differences.std() / len(differences) ** 0.5 + 1e-9))
