"""An image as the network wants it, by Pillow; the training's transforms use the same functions."""
from __future__ import annotations

import os

import numpy as np
from PIL import Image, ImageOps

from sparse_rcnn_mm.errors import UserError


def resized_shape(height: int, width: int, short_side: int, max_long_side: int | None = None) -> tuple[int, int]:
    """(height, width) with the short side scaled to `short_side`, or less where the long side would exceed its limit.

    Rounds as detectron2's `ResizeShortestEdge` does; a side is at least one pixel.
    """
    scale = short_side / min(height, width)
    if height < width:
        new_height, new_width = float(short_side), scale * width
    else:
        new_height, new_width = scale * height, float(short_side)
    if max_long_side is not None and max(new_height, new_width) > max_long_side:
        scale = max_long_side / max(new_height, new_width)
        new_height, new_width = new_height * scale, new_width * scale
    return max(int(new_height + 0.5), 1), max(int(new_width + 0.5), 1)


def resize(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """An image (H, W, 3) uint8 in another size, by Pillow's bilinear filter, antialiased when it shrinks."""
    # a flipped array is a view with a negative stride, which Pillow copies slowly by itself
    return np.array(Image.fromarray(np.ascontiguousarray(image)).resize((width, height), Image.Resampling.BILINEAR))


def read_rgb(image: str | os.PathLike | Image.Image | np.ndarray) -> np.ndarray:
    """A file, a Pillow image or an RGB array as (H, W, 3) uint8, upright by its EXIF orientation.

    Raises:
        UserError: the file cannot be read.
    """
    if isinstance(image, np.ndarray):
        return image
    if isinstance(image, Image.Image):
        return np.array(ImageOps.exif_transpose(image).convert('RGB'))
    try:
        with Image.open(image) as opened:
            return read_rgb(opened)
    except Exception as error:  # Pillow's decoders raise more than OSError on broken files
        raise UserError(f'image {image} is missing, corrupt or in no format that Pillow reads: {error}') from error
