"""Boxes against the edges in their images, for data that no trained weights know.

The borders of right boxes lie on edges more often than those of the same boxes elsewhere, if objects stand out from
what is around them. In photographs that is often too faint to tell; then nothing is decided.
"""
from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

from sparse_rcnn_mm.datasets.read_image import read_image

from .hypotheses import AS_THEY_ARE, CHANGES, SHIFTED
from .measurements import Hypothesis, Labels
from .sample import Labelled

_SIDE = 256  # pixels of the longer side of the images that are looked at
_BAND = 3  # pixels on each side of a border whose means are compared
_REACH, _STEP = 60, 3  # of the shifts that are tried, in pixels of those images
_MOST_BOXES = 150
_CLEARER = 1.5  # times the contrast that another hypothesis needs
_SURE = 5.0  # standard errors that it needs, on boxes that did not choose it


class _Edges:
    """The contrast across vertical and horizontal lines of an image, summed so that any line is read at once."""

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
        """Mean contrast (...) under the sides of boxes (..., 4) that lie inside; NaN where none does."""
        x1, y1, x2, y2 = np.moveaxis(np.rint(boxes * self.scale).astype(int), -1, 0)
        sides = [_along(self.vertical, x, y1, y2, self.width, self.height) for x in (x1, x2)]
        sides += [_along(self.horizontal.T, y, x1, x2, self.height, self.width) for y in (y1, y2)]
        total, count = (np.sum(values, axis=0) for values in zip(*sides, strict=True))
        return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _contrast(pixels: np.ndarray) -> np.ndarray:
    """(H, W): difference of the means of the rows above and below, summed over channels."""
    sums = np.cumsum(np.pad(pixels, ((1, 0), (0, 0), (0, 0))), 0)
    found = np.zeros(pixels.shape[:2], np.float32)
    above, middle, below = sums[:-2 * _BAND], sums[_BAND:-_BAND], sums[2 * _BAND:]
    found[_BAND:_BAND + len(middle)] = np.abs(above + below - 2 * middle).mean(2)[:len(found) - _BAND]
    return found


def _along(sums: np.ndarray, place: np.ndarray, start: np.ndarray, end: np.ndarray, places: int,
           length: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean along one side of each box, and whether enough of it is inside."""
    start, end = start.clip(0, length), end.clip(0, length)
    inside = (place >= _BAND) & (place < places - _BAND) & (end - start >= _BAND)
    place = place.clip(0, places - 1)
    return np.where(inside, (sums[end, place] - sums[start, place]) / np.maximum(end - start, 1), 0), inside


def by_edges(images: Sequence[Labelled]) -> Labels:
    """Compare boxes, and the same boxes changed, with the edges of their images."""
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
    """(S, 2) pixels of the images, up to about a quarter of their longer side."""
    side = float(np.median([max(one.width, one.height) for one in images])) if images else 1.
    steps = np.arange(-_REACH, _REACH + 1, _STEP) * side / _SIDE
    return np.stack(np.meshgrid(steps, steps, indexing='ij'), -1).reshape(-1, 2)


def _decide(changed: np.ndarray, shifted: np.ndarray, shifts: np.ndarray) -> Labels:
    """From the contrasts (n, changes) and (n, S) of the same boxes."""
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
    """How far labels lie off, where `change` puts them right."""
    return -round(float(change[0])), -round(float(change[1]))


def _mean(values: np.ndarray) -> np.ndarray:
    """Over the boxes, 0 where there is none."""
    known = ~np.isnan(values)
    return np.where(known, values, 0).sum(0) / np.maximum(known.sum(0), 1)


def _standard_errors(differences: np.ndarray) -> float:
    differences = differences[~np.isnan(differences)]
    if len(differences) < 10:
        return 0.
    return float(differences.mean() / (differences.std() / len(differences) ** 0.5 + 1e-9))
