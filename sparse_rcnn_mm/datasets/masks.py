"""Decodes the segmentations of annotation files to bitmaps."""
from __future__ import annotations

from typing import Any

import numpy as np
from mmcv.transforms import BaseTransform
from mmdet.structures.mask import BitmapMasks
from pycocotools import mask as rle_codec

from sparse_rcnn_mm.errors import UserError
from sparse_rcnn_mm.registry import TRANSFORMS


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


def decode_segmentation(segmentation: Any, height: int, width: int) -> np.ndarray:
    """Decode COCO polygons or run lengths to a bitmap (height, width) uint8, as pycocotools does.

    Polygons with fewer than three points, or with an odd number of coordinates, are ignored.

    Raises:
        ValueError: it is neither, or has another size. The message continues a sentence that starts "the segmentation".
    """
    if isinstance(segmentation, list):
        return _from_polygons(segmentation, height, width)
    if not isinstance(segmentation, dict) or not {'counts', 'size'} <= set(segmentation):
        raise ValueError('is neither a list of polygons nor run lengths with counts and size')
    if segmentation['size'] != [height, width]:
        raise ValueError(f'has the size {segmentation["size"]}, but the image is {height} high and {width} wide')
    counts = segmentation['counts']
    if isinstance(counts, list):
        if not all(isinstance(count, int) and count >= 0 for count in counts) or sum(counts) != height * width:
            raise ValueError('has run lengths that do not add up to the pixels of the image')
        return rle_codec.decode(rle_codec.frPyObjects(segmentation, height, width))
    return _from_text(counts, height, width)


def lacks_mask(segmentation: Any) -> bool:
    """Whether there is no segmentation, or only polygons of fewer than three points or of half a point."""
    return not segmentation or (isinstance(segmentation, list) and all(
        isinstance(polygon, list) and (len(polygon) < 6 or len(polygon) % 2) for polygon in segmentation))


def run_lengths(bitmap: np.ndarray) -> dict[str, Any]:
    """Encode a bitmap (height, width) as compressed run lengths, the format of COCO results."""
    rle = rle_codec.encode(np.asfortranarray(bitmap, dtype=np.uint8))
    return {'size': list(bitmap.shape), 'counts': rle['counts'].decode()}


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


def _from_polygons(polygons: list, height: int, width: int) -> np.ndarray:
    if not all(isinstance(polygon, list) for polygon in polygons):
        raise ValueError('is not a list of polygons, each a list of x1, y1, x2, y2, ...')
    usable = [polygon for polygon in polygons if len(polygon) >= 6 and len(polygon) % 2 == 0]
    if not all(isinstance(value, (int, float)) and abs(value) < 1e6 for polygon in usable for value in polygon):
        raise ValueError('has coordinates that are no numbers of pixels')
    if not usable:
        raise ValueError('has no polygon of three points or more')
    return rle_codec.decode(rle_codec.merge(rle_codec.frPyObjects(usable, height, width)))


def _from_text(counts: Any, height: int, width: int) -> np.ndarray:
    """Decode compressed run lengths: numbers in groups of five bits, from the fourth on as differences (COCO's API).

    pycocotools is not used here, because it writes out of bounds if the run lengths do not fit the image.
    """
    if not isinstance(counts, str) or not all('0' <= character <= 'o' for character in counts):
        raise ValueError('has counts that are neither numbers nor the text that COCO packs them in')
    runs: list[int] = []
    value = shift = 0
    for character in counts.encode():
        group = character - 48
        value |= (group & 31) << shift
        shift += 5
        if not group & 32:
            value -= (group & 16) and 1 << shift
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value = shift = 0
    if shift or any(run < 0 for run in runs) or sum(runs) != height * width:
        raise ValueError('has run lengths that do not add up to the pixels of the image')
    return np.repeat((np.arange(len(runs)) % 2).astype(np.uint8), runs).reshape(width, height).T
