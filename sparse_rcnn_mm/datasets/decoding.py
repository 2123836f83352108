"""Decodes images for training, testing and inference (docs/large_data.md lists the kinds of files).

8-bit images are converted by Pillow's `convert('RGB')` and rotated by their EXIF orientation. As in detectron2, alpha
is dropped and color profiles are ignored. Grayscale of more than 8 bits is scaled to 8, with one warning per process.
"""
from __future__ import annotations

import errno
import io
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from PIL import Image

from sparse_rcnn_mm.errors import UserError
from sparse_rcnn_mm.runtime.preprocessing import formats
from sparse_rcnn_mm.terminal import warn

# Pillow warns from half of its size limit on, where nothing is wrong yet.
warnings.filterwarnings('ignore', category=Image.DecompressionBombWarning)
_ORIENTATION = 0x0112
_TRANSPOSED = {
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90}
_MORE_BITS = {'I', 'F', 'I;16', 'I;16L', 'I;16B', 'I;16N'}
_SEVERAL_FRAMES = {'GIF', 'PNG', 'TIFF', 'WEBP'}  # not MPO, whose second image is a preview


class TooLargeError(ValueError):
    """An image with too many pixels. The message is the rest of a sentence that begins with the file name."""


def check_regular(path: str) -> None:
    """Raise OSError for a pipe, a device or a folder, which would be read for ever or not at all."""
    if os.path.exists(path) and not os.path.isfile(path):
        raise OSError(errno.EINVAL, 'it is not a regular file')


@contextmanager
def opened(source: Any) -> Iterator[Image.Image]:
    """`Image.open` for images of up to 178 million pixels, Pillow's limit.

    Raises:
        TooLargeError: the image is larger.
    """
    try:
        image = Image.open(source, formats=formats())
    except Image.DecompressionBombError as error:
        raise TooLargeError(f'has more than {2 * (Image.MAX_IMAGE_PIXELS or 0) / 1e6:.0f} million pixels, the limit: '
                            'cut it into tiles') from error
    with image:
        yield image


def decoded(content: bytes, path: str) -> np.ndarray:
    """Decode a picture file to (H, W, 3) uint8 in RGB order, upright.

    Raises:
        UserError: it is too large, damaged or not a picture. `path` names it in the message.
    """
    try:
        with opened(io.BytesIO(content)) as image:
            return pixels(image)
    except TooLargeError as error:
        raise UserError(f'image {path} {error}') from error
    except Exception as error:  # Pillow's decoders raise more than OSError on broken files
        reason = str(error).partition(' <_io.')[0]  # Pillow names a file in memory by its address
        raise UserError(f'image {path} is corrupt, or in a format that Pillow cannot read: {reason}') from error


def pixels(image: Image.Image) -> np.ndarray:
    """Decode an image to (H, W, 3) uint8 in RGB order, upright."""
    _say_frames(image)
    image.load()  # rotates TIFF upright, and reads EXIF stored after the pixels of a PNG
    orientation = orientation_of(image)
    gray = Image.fromarray(_eight_bits(image)) if image.mode in _MORE_BITS else image
    image = gray.convert('RGB')
    if orientation in _TRANSPOSED:
        image = image.transpose(_TRANSPOSED[orientation])
    return np.array(image)


def orientation_of(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8. It is 1, which means upright, if there is none or if it is invalid."""
    try:
        orientation = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # damaged EXIF can raise anything; the image itself may be fine
        return 1
    return orientation if isinstance(orientation, int) and 1 <= orientation <= 8 else 1


def _eight_bits(image: Image.Image) -> np.ndarray:
    """Scale grayscale of 16 bits, 32 bits or floating point to (H, W) uint8."""
    values = np.asarray(image)
    if image.mode not in ('I', 'F') or (image.mode == 'I' and image.format in ('PNG', 'PPM')):
        _say('16-bit', f'16-bit images are scaled to 8 bits by 1/257; the first has values of {values.min()} to '
             f'{values.max()} of 65535')
        return ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)
    values = np.nan_to_num(values.astype(np.float64), nan=0., posinf=0., neginf=0.)
    low, high = values.min(), values.max()
    if image.mode == 'F' and low >= 0 and high <= 1:
        _say('unit', 'floating-point images with values of 0 to 1 are scaled to 8 bits by 255')
        low, high = 0., 1.
    else:
        _say('range', f'32-bit images are scaled to 8 bits by the value range of each; the first has values of '
             f'{low:g} to {high:g}')
    return ((values - low) * (255 / (high - low or 1)) + 0.5).astype(np.uint8)


def _say_frames(image: Image.Image) -> None:
    if image.format in _SEVERAL_FRAMES and image.format not in _said and getattr(image, 'is_animated', False):
        _say(image.format, f'{image.format} files with several frames or pages: only the first is used')


_said: set[str] = set()


def _say(kind: str, message: str) -> None:
    """Warn once per process and kind."""
    if kind not in _said:
        _said.add(kind)
        warn(message)
