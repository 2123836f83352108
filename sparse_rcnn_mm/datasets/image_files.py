"""Which files are images, and their size without decoding them."""
from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from .decoding import check_regular, opened, orientation_of, pixels

# The file types that training, testing and inference read.
SUFFIXES = frozenset({'.jpg', '.jpeg', '.jpe', '.jfif', '.png', '.bmp', '.webp', '.tif', '.tiff', '.gif', '.ppm',
                      '.pgm', '.pnm', '.avif', '.jp2'})
_END = {'JPEG': b'\xff\xd9', 'MPO': b'\xff\xd9', 'PNG': b'IEND'}
_PART = 2 ** 16  # bytes at the beginning and the end of a file that are hashed, with its size
_TAIL = 4096  # bytes to search for the end mark: some cameras write more data after it


class ImageSize(NamedTuple):
    """Size in pixels after EXIF rotation, as `LoadRGBImage` gives it; or the reason why there is none in `fault`."""
    width: int = 0
    height: int = 0
    fault: str = ''


def is_image(path: Path) -> bool:
    """Whether the suffix is that of an image file type."""
    return path.suffix.lower() in SUFFIXES


def digest(path: Path) -> str:
    """16 hexadecimal digits for the content of a file, empty if it cannot be read."""
    try:
        check_regular(str(path))
        with path.open('rb') as file:
            start = file.read(_PART)
            size = file.seek(0, os.SEEK_END)
            file.seek(max(size - _PART, 0))
            return hashlib.sha256(b'%d ' % size + start + file.read()).hexdigest()[:16]
    except OSError:
        return ''


def image_sizes(paths: Iterable[Path], decode: bool = False) -> list[ImageSize]:
    """`image_size` of many files, in parallel threads."""
    with ThreadPoolExecutor() as pool:
        return list(pool.map(lambda path: image_size(str(path), decode), paths))


@cache
def image_size(path: str, decode: bool = False) -> ImageSize:
    """Read the size from the header. A file without a proper end is decoded, so that truncated files are found.

    Args:
        path: the image file.
        decode: decode the file in any case, which also finds damage in the middle.
    """
    try:
        check_regular(path)
        with opened(path) as image:
            width, height = image.size
            if decode or not _ends_well(path, image.format or ''):
                height, width = pixels(image).shape[:2]
                if image.format in ('JPEG', 'MPO') and image.mode in ('RGB', 'L'):
                    _decode_strictly(path)
            elif _orientation(image) >= 5:
                width, height = height, width
        return ImageSize(width, height)
    except FileNotFoundError:
        return ImageSize(fault='there is no such image')
    except OSError as error:
        return ImageSize(fault=f'cannot be decoded ({error.strerror or str(error).replace(path, "").strip()})')
    except Exception as error:  # Pillow's decoders raise more than OSError on broken files
        return ImageSize(fault=f'cannot be decoded ({str(error).replace(path, "").strip()})')


def _orientation(image: Image.Image) -> int:
    # Pillow decodes a whole PNG to look for EXIF after the pixels, where hardly any file has it.
    # The size of a TIFF is already upright.
    if (image.format == 'PNG' and 'exif' not in image.info) or image.format == 'TIFF':
        return 1
    return orientation_of(image)


def _decode_strictly(path: str) -> None:
    """Raise ValueError if data is missing in the middle of a JPEG, which Pillow silently fills with gray."""
    try:
        from simplejpeg import decode_jpeg
    except ImportError:
        return
    decode_jpeg(Path(path).read_bytes(), strict=True)


def _ends_well(path: str, kind: str) -> bool:
    if kind not in _END:
        return True
    with open(path, 'rb') as file:
        file.seek(0, os.SEEK_END)
        file.seek(max(file.tell() - _TAIL, 0))
        return _END[kind] in file.read()
