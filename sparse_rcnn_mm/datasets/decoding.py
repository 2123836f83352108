"""The one decoder of pictures for training, testing and inference; docs/large_data.md lists the kinds.

8-bit pictures come out as Pillow's `convert('RGB')` gives them, upright by their EXIF orientation: alpha is dropped and
the colours stay as they are stored, as detectron2 does it. Gray of more bits is scaled to 8, which is said once.
"""
from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from mmengine.logging import MMLogger
from PIL import Image

# From half of the limit on, where nothing is wrong yet.
warnings.filterwarnings('ignore', category=Image.DecompressionBombWarning)
_ORIENTATION = 0x0112
_TRANSPOSED = {
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90}
_MORE_BITS = {'I', 'F', 'I;16', 'I;16L', 'I;16B', 'I;16N'}
_SEVERAL_FRAMES = {'GIF', 'PNG', 'TIFF', 'WEBP'}  # photographs (MPO) often have a preview besides, which is no frame


class TooLargeError(ValueError):
    """The rest of a sentence that begins with the picture."""


@contextmanager
def opened(source: Any) -> Iterator[Image.Image]:
    """`Image.open` for pictures of up to 178 million pixels, which is Pillow's limit.

    Raises:
        TooLargeError: the picture is larger.
    """
    try:
        image = Image.open(source)
    except Image.DecompressionBombError as error:
        raise TooLargeError(f'has more than the {2 * (Image.MAX_IMAGE_PIXELS or 0) / 1e6:.0f} million pixels that are '
                            'read: cut it into tiles') from error
    with image:
        yield image


def pixels(image: Image.Image) -> np.ndarray:
    """(H, W, 3) uint8 in RGB order, upright."""
    _say_frames(image)
    image.load()  # which turns a TIFF upright by itself, and finds the EXIF behind the pixels of a PNG
    orientation = orientation_of(image)
    gray = Image.fromarray(_eight_bits(image)) if image.mode in _MORE_BITS else image
    image = gray.convert('RGB')
    if orientation in _TRANSPOSED:
        image = image.transpose(_TRANSPOSED[orientation])
    return np.array(image)


def orientation_of(image: Image.Image) -> int:
    """1 to 8 as EXIF has it; 1, as it is stored, where there is none that makes sense (text, damaged EXIF)."""
    try:
        orientation = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # whatever damaged EXIF makes Pillow raise: the picture is there all the same
        return 1
    return orientation if isinstance(orientation, int) and 1 <= orientation <= 8 else 1


def _eight_bits(image: Image.Image) -> np.ndarray:
    """Gray of 16 or 32 bits or in floating point as (H, W) uint8."""
    values = np.asarray(image)
    if image.mode not in ('I', 'F') or (image.mode == 'I' and image.format in ('PNG', 'PPM')):
        _say('16-bit', f'16-bit pictures are scaled to 8 bits, 257 to 1; the first has values of {values.min()} to '
             f'{values.max()} of 65535')
        return ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)
    values = np.nan_to_num(values.astype(np.float64), nan=0., posinf=0., neginf=0.)
    low, high = values.min(), values.max()
    if image.mode == 'F' and low >= 0 and high <= 1:
        _say('unit', 'floating-point pictures with values of 0 to 1 are scaled to 8 bits, 1 to 255')
        low, high = 0., 1.
    else:
        _say('range', f'pictures of 32 bits are scaled to 8 bits by the range of each; the first has values of '
             f'{low:g} to {high:g}')
    return ((values - low) * (255 / (high - low or 1)) + 0.5).astype(np.uint8)


def _say_frames(image: Image.Image) -> None:
    if image.format in _SEVERAL_FRAMES and image.format not in _said and getattr(image, 'is_animated', False):
        _say(image.format, f'of {image.format} files with several frames or pages the first is used')


_said: set[str] = set()


def _say(kind: str, message: str) -> None:
    """Once in a process."""
    if kind not in _said:
        _said.add(kind)
        MMLogger.get_current_instance().warning(message)
