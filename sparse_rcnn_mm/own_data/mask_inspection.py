"""Checks the masks of a data set: each can be decoded, and covers about the area of its box."""
from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from sparse_rcnn_mm.datasets.masks import decode_segmentation, extent, lacks_mask

from .finding import Finding, box_in, boxes_of
from .raw_data import Split

_LEAST = 0.5  # IoU of a box and the box of its mask


def mask_warnings(split: Split) -> Iterator[Finding]:
    """Find boxes without a mask, masks that cannot be decoded, and masks that are not where their boxes are."""
    for box, image in boxes_of(split):
        if lacks_mask(box.get('segmentation')):
            yield Finding('no mask', box['source'],
                          f'{box_in(box, image)} has no mask; training with masks leaves it out')
            continue
        try:
            bitmap = decode_segmentation(box['segmentation'], image['height'], image['width'])
        except ValueError as error:
            yield Finding('mask', box['source'], f'the segmentation {error}; training stops at it')
            continue
        if (overlap := _overlap(bitmap, box['bbox'])) < _LEAST:
            yield Finding('mask elsewhere', box['source'],
                          f'{box_in(box, image)} and the box of its mask have an IoU of only {overlap:.2f}')


def _overlap(bitmap: np.ndarray, box: list[float]) -> float:
    """IoU of a box x, y, width, height, as far as it is in the image, and the box of a mask."""
    other = np.array(extent(bitmap))
    if np.isnan(other[0]):
        return 0.
    x, y, width, height = box
    one = np.clip([x, y, x + width, y + height], 0, [*bitmap.shape[::-1]] * 2)
    shared = (np.minimum(one, other)[2:] - np.maximum(one, other)[:2]).clip(min=0).prod()
    areas = [(corners[2:] - corners[:2]).prod() for corners in (one, other)]
    return float(shared / max(sum(areas) - shared, 1e-9))
