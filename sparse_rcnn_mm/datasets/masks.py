"""Decodes the segmentations of annotation files to bitmaps."""
from __future__ import annotations

from typing import Any

import numpy as np
from mmcv.transforms import BaseTransform
from mmdet.structures.mask import BitmapMasks
from pycocotools import mask as rle_codec

from sparse_rcnn_mm.errors import UserError
from sparse_rcnn_mm.registry import TRANSFORMS

LARGEST_IMAGE = 2**29  # pixels; pycocotools reads larger run lengths wrongly
LONGEST_OUTLINE = 10**7  # pixels; pycocotools needs 80 bytes for each


@TRANSFORMS.register_module()
class LoadMasks(BaseTransform):
    """Decodes the segmentations of all boxes into `gt_masks`, bitmaps in the size of the original image.

    Place it after `LoadAnnotations`, which loads boxes and labels, and before any transform that changes the image.

    Raises `UserError` if a segmentation is invalid, or belongs to an image of another size.
    """

    def transform(self, results: dict) -> dict:
        """Add `gt_masks`."""
        height, width = results['ori_shape']
        if results['img_shape'] != results['ori_shape']:
            raise UserError('LoadMasks stands after a step of the pipeline that changes the image: move it before')
        bitmaps = np.zeros((len(results['instances']), height, width), np.uint8)
        for bitmap, instance in zip(bitmaps, results['instances'], strict=True):
            try:
                bitmap[:] = decode_segmentation(instance['mask'], height, width)
            except ValueError as error:
                raise UserError(f'annotation {instance["annotation_id"]} of image {results["img_path"]}: '
                                f'its segmentation {error}') from error
        results['gt_masks'] = BitmapMasks(bitmaps, height, width)
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}()'


def encode_segmentation(segmentation: Any, height: int, width: int) -> dict[str, Any]:
    """Encode COCO polygons or run lengths as compressed run lengths that pycocotools can use.

    Every segmentation of a file comes through here first, because pycocotools does not check them: it reads and writes
    out of bounds if run lengths do not fit the image, do not end, or are 0 in the middle.

    Polygons with fewer than three points, or with an odd number of coordinates, are ignored.

    Raises:
        ValueError: it is neither, or has another size. The message continues a sentence that starts "the segmentation".
    """
    if height % 1 or width % 1 or height * width > LARGEST_IMAGE:
        raise ValueError(f'belongs to an image that is {height} high and {width} wide: masks need whole numbers, '
                         f'and at most {LARGEST_IMAGE:,} pixels')
    height, width = int(height), int(width)
    if isinstance(segmentation, list):
        return _from_polygons(segmentation, height, width)
    if not isinstance(segmentation, dict) or not {'counts', 'size'} <= set(segmentation):
        raise ValueError('is neither a list of polygons nor run lengths with counts and size')
    if segmentation['size'] != [height, width]:
        raise ValueError(f'has the size {segmentation["size"]}, but the image is {height} high and {width} wide')
    runs = _runs(segmentation['counts'], height * width)
    if not runs[1:].all():
        return run_lengths(np.repeat((np.arange(len(runs)) % 2).astype(np.uint8), runs).reshape(width, height).T)
    return _as_text(rle_codec.frPyObjects({'size': [height, width], 'counts': runs}, height, width))


def decode_segmentation(segmentation: Any, height: int, width: int) -> np.ndarray:
    """Decode COCO polygons or run lengths to a bitmap (height, width) uint8. See `encode_segmentation`."""
    return rle_codec.decode(encode_segmentation(segmentation, height, width))


def lacks_mask(segmentation: Any) -> bool:
    """Whether there is no segmentation, or only polygons of fewer than three points or of half a point."""
    return not segmentation or (isinstance(segmentation, list) and all(
        isinstance(polygon, list) and (len(polygon) < 6 or len(polygon) % 2) for polygon in segmentation))


def run_lengths(bitmap: np.ndarray) -> dict[str, Any]:
    """Encode a bitmap (height, width) as compressed run lengths, the format of COCO results."""
    return _as_text(rle_codec.encode(np.asfortranarray(bitmap, dtype=np.uint8)))


def extent(bitmap: np.ndarray) -> list[float]:
    """The box of a bitmap (height, width) as x1, y1, x2, y2. NaN if it is empty."""
    rows, columns = np.flatnonzero(bitmap.any(1)), np.flatnonzero(bitmap.any(0))
    if not len(rows):
        return [float('nan')] * 4
    return [float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)]


def decode_run_lengths(rle: dict[str, Any]) -> np.ndarray:
    """Decode compressed run lengths that this package encoded to a bitmap (height, width) uint8."""
    return rle_codec.decode(rle)


def area(rle: dict[str, Any]) -> int:
    """Number of pixels covered by compressed run lengths."""
    return int(rle_codec.area(rle))


def _as_text(rle: dict[str, Any]) -> dict[str, Any]:
    return {'size': list(rle['size']), 'counts': rle['counts'].decode()}


def _from_polygons(polygons: list, height: int, width: int) -> dict[str, Any]:
    if not all(isinstance(polygon, list) for polygon in polygons):
        raise ValueError('is not a list of polygons, each a list of x1, y1, x2, y2, ...')
    usable = [polygon for polygon in polygons if len(polygon) >= 6 and len(polygon) % 2 == 0]
    if not all(isinstance(value, (int, float)) and abs(value) < 1e6 for polygon in usable for value in polygon):
        raise ValueError('has coordinates that are no numbers of pixels')
    if not usable:
        raise ValueError('has no polygon of three points or more')
    reach = max(map(max, usable)) - min(map(min, usable))
    if reach * sum(map(len, usable)) > LONGEST_OUTLINE and sum(map(_outline, usable)) > LONGEST_OUTLINE:
        raise ValueError(f'has an outline of more than {LONGEST_OUTLINE:,} pixels')
    return _as_text(rle_codec.merge(rle_codec.frPyObjects(usable, height, width)))


def _outline(polygon: list[float]) -> float:
    """The length of a closed polygon in steps of one pixel, also diagonally."""
    points = np.reshape(np.asarray(polygon, float), (-1, 2))
    return float(np.abs(points - np.roll(points, 1, axis=0)).max(axis=1).sum())


def _runs(counts: Any, pixels: int) -> np.ndarray:
    """The run lengths (R,) int64, none below 0, that `counts` has as numbers or as text. They add up to `pixels`."""
    if isinstance(counts, bytes):  # pycocotools' text
        counts = counts.decode('latin-1')
    if isinstance(counts, list):
        if all(isinstance(count, int) and count >= 0 for count in counts) and sum(counts) == pixels:
            return np.array(counts, np.int64)
    elif isinstance(counts, str) and '0' <= min(counts, default='0') and max(counts, default='o') <= 'o':
        runs = _unpacked(counts)
        if (runs >= 0).all() and runs.sum() == pixels:
            return runs
    else:
        raise ValueError('has counts that are neither numbers nor the text that COCO packs them in')
    raise ValueError('has run lengths that do not add up to the pixels of the image')


def _unpacked(text: str) -> np.ndarray:
    """Unpack numbers in groups of five bits, from the fourth on as differences to the last but one (COCO's API).

    Nothing if the text ends within a number, or has numbers that no image has.
    """
    groups = np.frombuffer(text.encode(), np.uint8).astype(np.int64) - 48
    ends = np.flatnonzero(groups & 32 == 0)
    lengths = np.diff(ends, prepend=-1)
    if not len(ends) or ends[-1] != len(groups) - 1 or lengths.max() > 6:
        return np.zeros(0, np.int64)
    starts = ends - lengths + 1
    bits = (groups & 31) << 5 * (np.arange(len(groups)) - np.repeat(starts, lengths))
    numbers = np.add.reduceat(bits, starts) - ((groups[ends] & 16) >> 4 << 5 * lengths)  # the highest bit is the sign
    for first in (1, 2):
        np.cumsum(numbers[first::2], out=numbers[first::2])
    return numbers
