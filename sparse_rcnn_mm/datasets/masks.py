"""Segmentations of annotation files as bitmaps."""
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
    """Decode the segmentations of all boxes: sets `gt_masks`, bitmaps of the original image.

    It stands after `LoadAnnotations`, in which boxes and labels are loaded, and before any change of the image.

    Raises `UserError` for a segmentation that is none, or one of another image size.
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
    """The bitmap (height, width) uint8 of COCO polygons or run lengths, as pycocotools draws it.

    Polygons of fewer than three points, or with half a point, are passed over.

    Raises:
        ValueError: it is neither, or of another size; the message goes on after "the segmentation".
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


def run_lengths(bitmap: np.ndarray) -> dict[str, Any]:
    """A bitmap (height, width) as compressed run lengths, the form of COCO's results."""
    rle = rle_codec.encode(np.asfortranarray(bitmap, dtype=np.uint8))
    return {'size': list(bitmap.shape), 'counts': rle['counts'].decode()}


def area(rle: dict[str, Any]) -> int:
    """How many pixels compressed run lengths cover."""
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
    """Compressed run lengths: numbers in groups of five bits, the third and later ones as differences (COCO's API).

    They are expanded here, because pycocotools writes beyond its memory where they do not fit the image.
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
