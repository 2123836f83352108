"""Pastes objects of one image into another, cut out along their masks (Simple Copy-Paste, arXiv 2012.07177)."""
from __future__ import annotations

from typing import Any

import numpy as np
import torch
from mmcv.transforms import BaseTransform
from mmdet.structures.bbox import HorizontalBoxes
from mmdet.structures.mask import BitmapMasks

from sparse_rcnn_mm.errors import UserError
from sparse_rcnn_mm.registry import TRANSFORMS
from sparse_rcnn_mm.runtime.preprocessing import resize


@TRANSFORMS.register_module()
class PasteObjects(BaseTransform):
    """Paste a random half of the objects of another image, resized, perhaps mirrored, at a random place.

    Objects below lose what is covered: their masks shrink, and their boxes follow the masks. Objects of which too
    little is left are dropped, and so are pasted ones that are mostly outside. For `MultiImageMixDataset`, before any
    resizing, with `gt_masks` loaded.

    Args:
        prob: how often objects are pasted.
        min_scale, max_scale: the size of the other image, relative to its own. Drawn uniformly.
        min_visible: objects are dropped if a smaller part of their mask is visible.
    """

    def __init__(self, prob: float = 0.5, min_scale: float = 0.5, max_scale: float = 1.5,
                 min_visible: float = 0.2) -> None:
        if not 0 < min_scale <= max_scale:
            raise UserError(f'PasteObjects needs 0 < min_scale <= max_scale, not {min_scale} and {max_scale}')
        self.prob = prob
        self.min_scale = min_scale
        self.max_scale = max_scale
        self.min_visible = min_visible

    def get_indexes(self, dataset: Any) -> int:
        """Choose the image whose objects are pasted."""
        return int(np.random.randint(len(dataset)))

    def transform(self, results: dict) -> dict:
        """Paste objects of `mix_results[0]` into a results dict."""
        source, = results['mix_results']
        if 'gt_masks' not in results:
            raise UserError('PasteObjects needs masks: put LoadMasks before it')
        if np.random.rand() < self.prob:
            chosen = np.flatnonzero(~source['gt_ignore_flags'] & (np.random.rand(len(source['gt_masks'])) < 0.5))
            image, masks, seen = self._moved(source['img'], source['gt_masks'].masks[chosen], results['img'].shape[:2])
            self._paste(results, image, masks, source['gt_bboxes_labels'][chosen[seen]])
        return results

    def _moved(self, image: np.ndarray, masks: np.ndarray,
               size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Resize, mirror and move an image and masks (n, h, w) onto a canvas of `size`.

        Returns:
            The canvas, the masks of the objects that are visible enough, and which ones these are.
        """
        scale = np.random.uniform(self.min_scale, self.max_scale)
        height, width = (max(round(side * scale), 1) for side in image.shape[:2])
        image, masks = resize(image, height, width), _resized(masks, height, width)
        if np.random.rand() < 0.5:
            image, masks = image[:, ::-1], masks[..., ::-1]
        top, left = (np.random.randint(min(space, 0), max(space, 0) + 1)
                     for space in (size[0] - height, size[1] - width))
        canvas = np.zeros((*size, 3), np.uint8)
        placed = np.zeros((len(masks), *size), np.uint8)
        rows, columns = slice(max(top, 0), top + height), slice(max(left, 0), left + width)
        inside = (slice(max(-top, 0), size[0] - top), slice(max(-left, 0), size[1] - left))
        canvas[rows, columns] = image[inside]
        placed[:, rows, columns] = masks[:, inside[0], inside[1]]
        seen = self._visible(placed, masks)
        return canvas, placed[seen], seen

    def _visible(self, masks: np.ndarray, whole: np.ndarray) -> np.ndarray:
        """Whether enough of each mask is left, (n,) bool."""
        left = masks.sum((1, 2), dtype=np.int64)
        return (left > 0) & (left >= self.min_visible * whole.sum((1, 2), dtype=np.int64))

    def _paste(self, results: dict, image: np.ndarray, masks: np.ndarray, labels: np.ndarray) -> None:
        covered = masks.sum(axis=0) > 0
        below = results['gt_masks'].masks
        left = below * ~covered
        changed = (left != below).any((1, 2))
        kept = ~changed | self._visible(left, below)
        boxes = results['gt_bboxes'].tensor.numpy().copy()
        boxes[changed & kept] = _extents(left[changed & kept])
        results['img'] = np.where(covered[..., None], image, results['img'])
        results['gt_bboxes'] = HorizontalBoxes(torch.from_numpy(np.concatenate([boxes[kept], _extents(masks)])))
        results['gt_masks'] = BitmapMasks(np.concatenate([left[kept], masks]), *covered.shape)
        results['gt_bboxes_labels'] = np.concatenate([results['gt_bboxes_labels'][kept], labels])
        results['gt_ignore_flags'] = np.concatenate([results['gt_ignore_flags'][kept], np.zeros(len(masks), bool)])

    def __repr__(self) -> str:
        return (f'{type(self).__name__}(prob={self.prob}, min_scale={self.min_scale}, max_scale={self.max_scale}, '
                f'min_visible={self.min_visible})')


@TRANSFORMS.register_module()
class DropMasks(BaseTransform):
    """Removes `gt_masks`, for detectors without masks."""

    def transform(self, results: dict) -> dict:
        """Remove the masks of a results dict."""
        results.pop('gt_masks', None)
        return results


def _resized(masks: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resize masks (n, h, w) as `resize` resizes the image: a pixel belongs to the mask if half of it is inside."""
    if not len(masks):
        return np.zeros((0, height, width), np.uint8)
    return np.stack([resize(np.repeat(mask[..., None] * np.uint8(255), 3, axis=-1), height, width)[..., 0] > 127
                     for mask in masks]).astype(np.uint8)


def _extents(masks: np.ndarray) -> np.ndarray:
    """The boxes around masks (n, h, w), as (n, 4) float32. No mask may be empty."""
    boxes = np.zeros((len(masks), 4), np.float32)
    for box, mask in zip(boxes, masks, strict=True):
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        box[:] = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
    return boxes
