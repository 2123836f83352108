"""Image files: which they are, and their size without decoding them."""
from __future__ import annotations

import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import NamedTuple

from PIL import Image, ImageOps

SUFFIXES = frozenset({'.jpg', '.jpeg', '.jpe', '.jfif', '.png', '.bmp', '.webp', '.tif', '.tiff', '.gif', '.ppm',
                      '.pgm'})
_END = {'JPEG': b'\xff\xd9', 'MPO': b'\xff\xd9', 'PNG': b'IEND'}
_EXIF_ORIENTATION = 0x0112
_TAIL = 4096  # bytes; some cameras write a few after the end of the image


class ImageSize(NamedTuple):
    """Size in pixels, upright by the EXIF orientation as `LoadRGBImage` has it; `fault` tells why there is none."""
    width: int = 0
    height: int = 0
    fault: str = ''


def is_image(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES


def image_sizes(paths: Iterable[Path], decode: bool = False) -> list[ImageSize]:
    """`image_size` of many files, several at a time."""
    with ThreadPoolExecutor() as pool:
        return list(pool.map(lambda path: image_size(str(path), decode), paths))


@cache
def image_size(path: str, decode: bool = False) -> ImageSize:
    """Read the header; decode only what does not end as its format says, so that cut-off files are found.

    Args:
        decode: decode every file, which also finds damage in its middle.
    """
    try:
        with Image.open(path) as image:
            width, height = image.size
            if decode or not _ends_well(path, image.format or ''):
                width, height = ImageOps.exif_transpose(image).size
                image.convert('RGB')
            elif _orientation(image) >= 5:
                width, height = height, width
        return ImageSize(width, height)
    except FileNotFoundError:
        return ImageSize(fault='there is no such image')
    except Exception as error:  # Pillow's decoders raise more than OSError on broken files
        return ImageSize(fault=f'cannot be decoded ({str(error).replace(path, "").strip()})')


def _orientation(image: Image.Image) -> int:
    # Pillow decodes a whole PNG to look for EXIF behind its pixels, where next to no file has it.
    if image.format == 'PNG' and 'exif' not in image.info:
        return 1
    orientation = image.getexif().get(_EXIF_ORIENTATION, 1)
    return orientation if isinstance(orientation, int) else 1  # a text turns nothing


def _ends_well(path: str, kind: str) -> bool:
    if kind not in _END:
        return True
    with open(path, 'rb') as file:
        file.seek(0, os.SEEK_END)
        file.seek(max(file.tell() - _TAIL, 0))
        return _END[kind] in file.read()
