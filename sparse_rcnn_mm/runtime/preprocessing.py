"""Reads and resizes images with Pillow. The transforms of training use the same functions."""
from __future__ import annotations

import functools
import os
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageOps

from sparse_rcnn_mm.errors import UserError

_FORMATS = ('JPEG', 'PNG', 'WEBP', 'TIFF', 'BMP', 'GIF', 'PPM', 'AVIF', 'JPEG2000', 'MPO', 'DIB')


def resized_shape(height: int, width: int, short_side: int, max_long_side: int | None = None,
                  within: Sequence[int] | None = None) -> tuple[int, int]:
    """The (height, width) after scaling the short side to `short_side`, or to less if the long side gets too long.

    Rounds like detectron2's `ResizeShortestEdge`. A side is at least one pixel. `within` is the largest height and
    width.
    """
    scale = short_side / min(height, width)
    if height < width:
        new_height, new_width = float(short_side), scale * width
    else:
        new_height, new_width = scale * height, float(short_side)
    if max_long_side is not None and max(new_height, new_width) > max_long_side:
        scale = max_long_side / max(new_height, new_width)
        new_height, new_width = new_height * scale, new_width * scale
    if within is not None:
        scale = min(within[0] / new_height, within[1] / new_width, 1)
        new_height, new_width = new_height * scale, new_width * scale
    return max(int(new_height + 0.5), 1), max(int(new_width + 0.5), 1)


def resize(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resize an image (H, W, 3) uint8 with Pillow's bilinear filter, which is antialiased when it shrinks an image."""
    # a flipped array is a view with a negative stride, which Pillow would copy slowly
    return np.array(Image.fromarray(np.ascontiguousarray(image)).resize((width, height), Image.Resampling.BILINEAR))


@functools.cache
def formats() -> tuple[str, ...]:
    """The formats of image files that are read. Others that Pillow knows, such as EPS, would run a program."""
    Image.init()
    return tuple(name for name in _FORMATS if name in Image.OPEN)


def read_rgb(image: str | os.PathLike | Image.Image | np.ndarray) -> np.ndarray:
    """Read a file, a Pillow image or an RGB array as (H, W, 3) uint8, rotated by its EXIF orientation.

    Raises:
        UserError: the file cannot be read, or the image has not 8 bits per channel.
    """
    if isinstance(image, np.ndarray):
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            raise UserError(f'an image must be (H, W, 3) uint8, not {image.shape} {image.dtype}')
        return image
    if isinstance(image, Image.Image):
        if image.mode.startswith(('I', 'F')):  # Pillow would cut off what does not fit into 8 bits
            raise UserError(f'an image of mode {image.mode} has more than 8 bits: scale it to 8 bits, as `sparse-rcnn '
                            'infer` does')
        return np.array(ImageOps.exif_transpose(image).convert('RGB'))
    try:
        if isinstance(image, (str, os.PathLike)) and os.path.exists(image) and not os.path.isfile(image):
            raise OSError('it is not a regular file')  # such as a pipe, which would be read for ever
        with Image.open(image, formats=formats()) as opened:
            return read_rgb(opened)
    except UserError as error:
        raise UserError(f'image {image}: {error}') from error
    except Exception as error:  # Pillow's decoders raise more than OSError on broken files
        raise UserError(f'image {image} is missing, corrupt, or of an unknown format: {error}') from error
