"""Draws masks on pictures."""
from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

OPACITY = 0.45


def draw_masks(picture: Image.Image, masks: np.ndarray, colors: Sequence[tuple[int, int, int]]) -> Image.Image:
    """Tint the pixels of masks in place. Where masks overlap, the first is on top.

    Args:
        picture: RGB, of the masks' size or another.
        masks: (n, height, width) bool.
        colors: one for each.
    """
    paint = np.zeros((*masks.shape[1:], 3), np.uint8)
    covered = np.zeros(masks.shape[1:], bool)
    for mask, color in zip(masks[::-1], colors[::-1], strict=True):
        paint[mask] = color
        covered |= mask
    opacity = (covered * round(255 * OPACITY)).astype(np.uint8)
    tint, amount = (Image.fromarray(layer).resize(picture.size, Image.Resampling.NEAREST) for layer in (paint, opacity))
    picture.paste(tint, mask=amount)
    return picture
