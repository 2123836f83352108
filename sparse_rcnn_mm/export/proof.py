"""Verifies that an exported file gives the same detections as PyTorch."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from mmdet.structures import DetDataSample
from PIL import Image
from scipy.optimize import linear_sum_assignment

from sparse_rcnn_mm.errors import UserError
from sparse_rcnn_mm.inference.backend import Backend, Found
from sparse_rcnn_mm.runtime import Engine
from sparse_rcnn_mm.runtime.detector import in_original
from sparse_rcnn_mm.runtime.preprocessing import resized_shape


@dataclass(frozen=True)
class Limits:
    """The largest differences that count as rounding.

    Attributes:
        boxes: in pixels, for images whose longer side is at most 800 pixels; see `for_side`.
        scores: of the scores.
        masks: share of the image's pixels that are in only one of two masks: those whose probability is nearly 0.5.
    """
    boxes: float = 1e-3
    scores: float = 1e-5
    masks: float = 1e-3

    def for_side(self, longest: int) -> Limits:
        """The limits for images of up to this longer side. float32 keeps 7 digits of a coordinate, however large it is.

        At 1333x800, the boxes of PyTorch itself differ by 8e-4 px from float64, and by 9e-4 px between the two memory
        layouts of a map (R50, boxes of 500 px).
        """
        return replace(self, boxes=self.boxes * max(1., longest / 800))


@dataclass
class Differences:
    """The differences between two sets of detections.

    Attributes:
        boxes, scores: the largest differences, of boxes in pixels; infinite if a detection has no counterpart.
        swapped: how many detections have another rank than their counterpart, since their scores are nearly equal.
        compared: how many detections were compared.
        images: the (batch, height, width) of each compared batch.
        masks: the largest share of an image's pixels that are in only one of two masks; None without masks.
    """
    boxes: float = 0.0
    scores: float = 0.0
    swapped: int = 0
    compared: int = 0
    images: list[tuple[int, int, int]] | None = None
    masks: float | None = None

    def add(self, other: Differences) -> None:
        """Combine with the differences of other images."""
        self.boxes, self.scores = max(self.boxes, other.boxes), max(self.scores, other.scores)
        if other.masks is not None:
            self.masks = max(self.masks or 0., other.masks)
        self.swapped += other.swapped
        self.compared += other.compared

    def within(self, limits: Limits) -> bool:
        """Whether the differences are within the limits."""
        return self.boxes <= limits.boxes and self.scores <= limits.scores and (self.masks or 0.) <= limits.masks

    def __str__(self) -> str:
        shapes = ', '.join('x'.join(map(str, shape)) for shape in self.images or ())
        masks = '' if self.masks is None else f'masks {self.masks:.1e} of the pixels, '
        return (f'boxes {self.boxes:.1e} px, {masks}scores {self.scores:.1e} at most, '
                f'{self.swapped} of {self.compared} detections in another place; batches of {shapes}')


def prove(engine: Engine, reference: Backend, limits: Limits) -> Differences:
    """Compare an engine with PyTorch on images of several sizes, aspect ratios and batch sizes.

    Args:
        engine: runs the exported file.
        reference: the network that it was exported from.
        limits: the allowed differences of images of 800 pixels.

    Raises:
        UserError: the engine fails, or the detections differ by more than rounding.
    """
    total = Differences(images=[])
    all_sizes = sizes_to_try(**engine.metadata['resize'])
    limits = limits.for_side(max(side for sizes in all_sizes for size in sizes for side in size))
    for sizes in all_sizes:
        images = [smooth_image(seed, *size) for seed, size in enumerate(sizes)]
        batch = stack(images)
        assert total.images is not None
        total.images.append((len(images), *batch.shape[2:]))
        try:
            found = engine(batch, np.array(sizes, np.int64))
        except UserError as error:
            raise UserError(f'the exported file does not work, so it was not kept: {error}') from error
        fixed = engine.metadata['resize'].get('within')
        # How far a batch is padded matters a little: with an image of the static size, it is the same.
        expected = reference(as_inputs([*images, *([np.zeros((*fixed, 3), np.uint8)] if fixed else [])]))
        for one, wanted in zip(solid_ones(found, sizes), expected[:len(images)], strict=True):
            total.add(compare(one, wanted, limits))
    if not total.within(limits):
        raise UserError(f'the exported file gives other detections than PyTorch ({total}); allowed are at most '
                        f'{limits.boxes:.1e} px and {limits.scores:.1e}: it was not kept')
    return total


def sizes_to_try(short_side: int, max_long_side: int | None,
                 within: Sequence[int] | None = None) -> list[list[tuple[int, int]]]:
    """The (height, width) of the images in each batch. If sizes are open, none is the one used for tracing."""
    shapes = [resized_shape(height, width, short_side, max_long_side, within)
              for height, width in ((3, 4), (500, 333), (9, 16), (1, 1))]
    small = [(height * 5 // 13 + index, width * 4 // 11) for index, (height, width) in enumerate([*shapes, shapes[0]])]
    return [shapes[:1], shapes[1:2], [shapes[2], (shapes[3][0] - 7, shapes[3][1])], small]


def smooth_image(seed: int, height: int, width: int) -> np.ndarray:
    """Generate an image (height, width, 3) uint8 of smooth colors with edges and some noise."""
    random = np.random.RandomState(seed)
    coarse = Image.fromarray(random.randint(0, 256, (7, 9, 3)).astype(np.uint8))
    image = np.array(coarse.resize((width, height), Image.Resampling.BICUBIC)).astype(int)
    image[height // 4:height // 2, width // 3:width // 2] = random.randint(0, 256, 3)
    return (image + random.randint(-9, 10, image.shape)).clip(0, 255).astype(np.uint8)


def stack(images: Sequence[np.ndarray]) -> np.ndarray:
    """Stack images (h, w, 3) to a batch (B, 3, H, W). The padding is garbage, which the network must ignore."""
    height, width = (max(image.shape[axis] for image in images) for axis in (0, 1))
    batch = np.random.RandomState(0).randint(0, 256, (len(images), 3, height, width)).astype(np.uint8)
    for canvas, image in zip(batch, images, strict=True):
        canvas[:, :image.shape[0], :image.shape[1]] = image.transpose(2, 0, 1)
    return batch


def as_inputs(images: Sequence[np.ndarray]) -> list[dict]:
    """Convert images (h, w, 3) to the output of a test pipeline."""
    return [{'inputs': torch.from_numpy(image.transpose(2, 0, 1).copy()), 'data_samples': DetDataSample(
        metainfo={'img_shape': image.shape[:2], 'ori_shape': image.shape[:2]})} for image in images]


def compare(found: Any, wanted: Any, limits: Limits) -> Differences:
    """Compare the detections of one image as sets, because the order of nearly equal scores is random.

    Args:
        found, wanted: `Found`, or a tuple with the same fields.
        limits: the allowed differences.
    """
    if not len(found.scores) or not len(wanted.scores):
        apart = 0.0 if len(found.scores) == len(wanted.scores) else np.inf
        return Differences(apart, apart)
    boxes = np.abs(found.boxes[:, None] - wanted.boxes[None]).max(axis=2)
    scores = np.abs(found.scores[:, None] - wanted.scores[None])
    labels = found.labels[:, None] != wanted.labels[None]
    # The distance of two detections, in units of the limits.
    rows, columns = linear_sum_assignment(
        np.minimum(boxes / limits.boxes + scores / limits.scores, 1e6) + 1e7 * labels)
    # At the end of the list, detections with nearly equal scores may be replaced by others.
    last = max(found.scores[-1], wanted.scores[-1]) + limits.scores
    counted = (found.scores[rows] > last) | (wanted.scores[columns] > last) | ~labels[rows, columns]
    rows, columns = rows[counted], columns[counted]
    lonely = [*np.delete(found.scores, rows), *np.delete(wanted.scores, columns)]
    if labels[rows, columns].any() or max(lonely, default=0) > last:
        return Differences(np.inf, np.inf, compared=len(wanted.scores))
    return Differences(float(boxes[rows, columns].max(initial=0)), float(scores[rows, columns].max(initial=0)),
                       int((rows != columns).sum()), len(wanted.scores),
                       masks=_masks_apart(found, wanted, rows, columns))


def _masks_apart(found: Any, wanted: Any, rows: np.ndarray, columns: np.ndarray) -> float | None:
    if found.masks is None or wanted.masks is None:
        return None
    return max((float((found.masks[row] != wanted.masks[column]).mean()) for row, column in
                zip(rows, columns, strict=True)), default=0.)


def solid_ones(found: Sequence[np.ndarray], sizes: Sequence[tuple[int, int]]) -> list[Found]:
    """Drop the empty detections of each image (height, width), and paste the masks."""
    return [Found(*in_original(arrays, size, size))
            for arrays, size in zip(zip(*found, strict=True), sizes, strict=True)]
