"""The official input pipeline: decoded and resized by Pillow, with detectron2's sizes and random distributions.

Source: `SparseRCNNDatasetMapper` of the official code and the detectron2 augmentations that it names. Flipping and
applying with a probability are mmdet's `RandomFlip` and mmcv's `RandomApply`, which do the same.
All transforms work on mmdet's results dict, with `img` (H, W, 3) uint8 in RGB order.
"""
from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from mmcv.transforms import BaseTransform
from mmengine import fileio

from sparse_rcnn_mm.errors import UserError
from sparse_rcnn_mm.registry import TRANSFORMS
from sparse_rcnn_mm.runtime.preprocessing import resize, resized_shape

from .decoding import check_regular, decoded


# mmdet's inferencer looks for the second name. In this scope it is the same class: RGB, by Pillow.
@TRANSFORMS.register_module(name=['LoadRGBImage', 'LoadImageFromFile'])
class LoadRGBImage(BaseTransform):
    """Decode `img_path` with Pillow and rotate it by its EXIF orientation. Sets `img`, `img_shape`, `ori_shape`.

    Raises `UserError` if the file is missing or not an image, or if its size is not the annotated `height` x `width`,
    since the boxes would then be wrong.
    """

    def __init__(self, backend_args: dict | None = None) -> None:
        self.backend_args = backend_args

    def transform(self, results: dict) -> dict:
        """Load the image of a results dict."""
        path = results['img_path']
        img = self._read(path)
        height, width = img.shape[:2]
        annotated = results.get('width', width), results.get('height', height)
        if annotated != (width, height):
            raise UserError(
                f'image {path} is {width} x {height} pixels, but its annotation file says '
                f'{annotated[0]} x {annotated[1]}: correct the annotation file or restore the image')
        results['img'] = img
        results['img_shape'] = results['ori_shape'] = (height, width)
        return results

    def _read(self, path: str) -> np.ndarray:
        try:
            check_regular(path)
            content = fileio.get(path, backend_args=self.backend_args)
        except OSError as error:
            raise UserError(f'cannot read image {path}: {error.strerror or error}') from error
        return decoded(content, path)

    def __repr__(self) -> str:
        return f'{type(self).__name__}(backend_args={self.backend_args})'


@TRANSFORMS.register_module()
class ResizeShortSide(BaseTransform):
    """Resize image and boxes so that the short side is one of `short_sides`, chosen uniformly at random.

    Uses Pillow's bilinear filter, which unlike OpenCV's is antialiased when it shrinks an image. Sets `img_shape` and
    `scale_factor`, the ratio of the sizes (width, height).
    """

    def __init__(self, short_sides: int | Sequence[int], max_long_side: int | None = None) -> None:
        self.short_sides = [short_sides] if isinstance(short_sides, int) else list(short_sides)
        self.max_long_side = max_long_side

    def _draw(self) -> int:
        return int(np.random.choice(self.short_sides))

    def transform(self, results: dict) -> dict:
        """Resize the image of a results dict, and its boxes."""
        height, width = results['img'].shape[:2]
        new_height, new_width = resized_shape(height, width, self._draw(), self.max_long_side)
        if (new_height, new_width) != (height, width):
            results['img'] = resize(results['img'], new_height, new_width)
        results['img_shape'] = (new_height, new_width)
        results['scale_factor'] = (new_width / width, new_height / height)
        if 'gt_bboxes' in results:
            results['gt_bboxes'].rescale_(results['scale_factor'])
        if 'gt_masks' in results:
            results['gt_masks'] = results['gt_masks'].resize((new_height, new_width))
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}(short_sides={self.short_sides}, max_long_side={self.max_long_side})'


@TRANSFORMS.register_module()
class RandomCropRange(BaseTransform):
    """Crop a window whose height and width are drawn independently from `min_side` to `max_side`.

    Like detectron2's RandomCrop of type "absolute_range": a side shorter than `min_side` is kept whole. Boxes are
    shifted but not clipped; `ClipBoxes` at the end of the pipeline clips them.
    """

    def __init__(self, min_side: int = 384, max_side: int = 600) -> None:
        if not 0 < min_side <= max_side:
            raise UserError(f'RandomCropRange needs 0 < min_side <= max_side, not {min_side} and {max_side}')
        self.min_side = min_side
        self.max_side = max_side

    def _draw(self, height: int, width: int) -> tuple[int, int, int, int]:
        crop_height, crop_width = (
            np.random.randint(min(side, self.min_side), min(side, self.max_side) + 1) for side in (height, width))
        top = np.random.randint(height - crop_height + 1)
        left = np.random.randint(width - crop_width + 1)
        return top, left, crop_height, crop_width

    def transform(self, results: dict) -> dict:
        """Crop the image of a results dict, and shift its boxes."""
        top, left, height, width = self._draw(*results['img'].shape[:2])
        results['img'] = results['img'][top:top + height, left:left + width]
        results['img_shape'] = (height, width)
        if 'gt_bboxes' in results:
            results['gt_bboxes'].translate_((-left, -top))
        if 'gt_masks' in results:
            results['gt_masks'] = results['gt_masks'].crop(np.array([left, top, left + width, top + height]))
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}(min_side={self.min_side}, max_side={self.max_side})'


@TRANSFORMS.register_module()
class ClipBoxes(BaseTransform):
    """Clip the boxes to the image, then drop boxes with a side of at most `min_side` pixels.

    An image without remaining boxes is kept.
    """

    def __init__(self, min_side: float = 1e-5) -> None:
        self.min_side = min_side

    def transform(self, results: dict) -> dict:
        """Clip and filter the boxes of a results dict."""
        boxes = results['gt_bboxes']
        boxes.clip_(results['img_shape'])
        keep = ((boxes.widths > self.min_side) & (boxes.heights > self.min_side)).numpy()
        results['gt_bboxes'] = boxes[keep]
        for key in ('gt_bboxes_labels', 'gt_ignore_flags', 'gt_masks'):
            if key in results:
                results[key] = results[key][keep]
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}(min_side={self.min_side})'


@TRANSFORMS.register_module()
class RoundPixels(BaseTransform):
    """Make an image uint8 again after transforms that compute in float32, as Pillow's resizing needs it."""

    def transform(self, results: dict) -> dict:
        """Clip and round `img`."""
        results['img'] = results['img'].clip(0, 255).round().astype(np.uint8)
        return results
