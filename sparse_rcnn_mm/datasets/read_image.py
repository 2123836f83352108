"""Converts a path, Pillow image or array to the array that the test pipeline takes."""
from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from PIL import Image

from sparse_rcnn_mm.errors import UserError

from .decoding import check_regular, decoded, pixels

# A file, a Pillow image, or an array (H, W, 3) uint8 in RGB order.
ImageLike = str | os.PathLike | Image.Image | np.ndarray


def read_image(image: ImageLike) -> np.ndarray:
    """Return an image as an array (H, W, 3) uint8 in RGB order, upright.

    Raises:
        UserError: the file cannot be read, or the array has another shape or type.
    """
    if isinstance(image, Image.Image):
        return pixels(image)
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
            raise UserError(f'an image array is (H, W, 3) uint8 in RGB order, not {image.shape} {image.dtype}')
        return image
    path = os.fspath(image)
    if '://' in path:  # mmengine fetches it
        from .transforms import LoadRGBImage
        return LoadRGBImage().transform({'img_path': path})['img']
    try:
        check_regular(path)
        content = Path(path).read_bytes()
    except OSError as error:
        raise UserError(f'cannot read image {path}: {error.strerror or error}') from error
    return decoded(content, path)
