"""Ways in which boxes can be wrong, each given by the change that corrects it."""
from __future__ import annotations

from collections.abc import Callable

import numpy as np

AS_THEY_ARE = 'as they are'
SHIFTED = 'shifted'
ROW_BY_ROW, INVERTED = 'row by row', 'inverted'  # of masks only


def _swapped(boxes: np.ndarray, width: float, height: float) -> np.ndarray:
    return boxes[:, [1, 0, 3, 2]]


def _centers(boxes: np.ndarray, width: float, height: float) -> np.ndarray:
    half = (boxes[:, 2:] - boxes[:, :2]) / 2
    return np.concatenate([boxes[:, :2] - half, boxes[:, 2:] - half], 1)


def _mirrored(boxes: np.ndarray, width: float, height: float) -> np.ndarray:
    return np.stack([width - boxes[:, 2], boxes[:, 1], width - boxes[:, 0], boxes[:, 3]], 1)


def _upside_down(boxes: np.ndarray, width: float, height: float) -> np.ndarray:
    return np.stack([boxes[:, 0], height - boxes[:, 3], boxes[:, 2], height - boxes[:, 1]], 1)


# name -> function from boxes (n, 4) as x1, y1, x2, y2 in an image of (width, height) to the corrected boxes.
CHANGES: dict[str, Callable[[np.ndarray, float, float], np.ndarray]] = {
    AS_THEY_ARE: lambda boxes, width, height: boxes,
    'swapped': _swapped,
    'centers': _centers,
    'mirrored': _mirrored,
    'upside down': _upside_down,
}
WORDS = {
    'swapped': 'x and y of the labels are swapped',
    'centers': 'the labels give the center of a box where its top left corner is read',
    'mirrored': 'the labels are mirrored left to right',
    'upside down': 'the labels are mirrored top to bottom: y counts from below',
}
MASK_WORDS = {
    'swapped': 'x and y of the masks are swapped',
    'mirrored': 'the masks are mirrored left to right',
    'upside down': 'the masks are mirrored top to bottom',
    ROW_BY_ROW: 'the run lengths of the masks were written row by row, but COCO counts down the columns',
    INVERTED: 'the masks are inverted: they cover what is around the objects',
}


def moved_words(shift: tuple[int, int]) -> str:
    """Describe an offset in words: (30, -20) is '30 px right and 20 px up'."""
    sides = [f'{abs(pixels)} px {names[pixels < 0]}' for pixels, names in
             zip(shift, (('right', 'left'), ('down', 'up')), strict=True) if pixels]
    return ' and '.join(sides)


def put_right(name: str, shift: tuple[int, int], boxes: np.ndarray, width: float, height: float) -> np.ndarray:
    """Correct the boxes according to the hypothesis `name`."""
    if name == SHIFTED:
        return boxes - np.tile(shift, 2)
    return CHANGES[name](boxes, width, height)
