"""Whether an exported file detects what PyTorch does."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from mmdet.structures import DetDataSample
from PIL import Image
from scipy.optimize import linear_sum_assignment

from sparse_rcnn_mm.errors import UserError
from sparse_rcnn_mm.inference.backend import Backend, Found
from sparse_rcnn_mm.runtime import Engine
from sparse_rcnn_mm.runtime.preprocessing import resized_shape


@dataclass(frozen=True)
class Limits:
    """The largest differences that are taken for rounding: of boxes in pixels, and of scores."""
    boxes: float = 1e-3
    scores: float = 1e-5


@dataclass
class Differences:
    """Between two sets of detections.

    Attributes:
        boxes, scores: the largest, in pixels and as they are; infinite where a detection has no partner.
        swapped: detections whose partner has another rank, because neighboring scores are nearly equal.
        compared: detections.
        images: of this (batch, height, width) each.
    """
    boxes: float = 0.0
    scores: float = 0.0
    swapped: int = 0
    compared: int = 0
    images: list[tuple[int, int, int]] | None = None

    def add(self, other: Differences) -> None:
        self.boxes, self.scores = max(self.boxes, other.boxes), max(self.scores, other.scores)
        self.swapped += other.swapped
        self.compared += other.compared

    def within(self, limits: Limits) -> bool:
        return self.boxes <= limits.boxes and self.scores <= limits.scores

    def __str__(self) -> str:
        shapes = ', '.join('x'.join(map(str, shape)) for shape in self.images or ())
        return (f'boxes {self.boxes:.1e} px, scores {self.scores:.1e} at most, {self.swapped} of {self.compared} '
                f'detections in another place; batches of {shapes}')


def prove(engine: Engine, reference: Backend, limits: Limits) -> Differences:
    """Compare an engine with PyTorch, on images of several sizes, aspect ratios and batches.

    Args:
        engine: of the exported file.
        reference: the network it was exported from.

    Raises:
        UserError: they differ by more than rounding.
    """
    total = Differences(images=[])
    for sizes in sizes_to_try(**engine.metadata['resize']):
        images = [smooth_image(seed, *size) for seed, size in enumerate(sizes)]
        batch = stack(images)
        assert total.images is not None
        total.images.append((len(images), *batch.shape[2:]))
        found = engine(batch, np.array(sizes, np.int64))
        for one, wanted in zip(_solid(found), reference(as_inputs(images)), strict=True):
            total.add(compare(one, wanted, limits))
    if not total.within(limits):
        raise UserError(f'the exported file does not detect what PyTorch does ({total}), where at most '
                        f'{limits.boxes:g} px and {limits.scores:g} are allowed: it was not kept')
    return total


def sizes_to_try(short_side: int, max_long_side: int | None) -> list[list[tuple[int, int]]]:
    """(height, width) of the images of each batch; none is what the network was traced with."""
    shapes = [resized_shape(height, width, short_side, max_long_side)
              for height, width in ((3, 4), (500, 333), (9, 16), (1, 1))]
    small = [(height * 5 // 13 + index, width * 4 // 11) for index, (height, width) in enumerate([*shapes, shapes[0]])]
    return [shapes[:1], shapes[1:2], [shapes[2], (shapes[3][0] - 7, shapes[3][1])], small]


def smooth_image(seed: int, height: int, width: int) -> np.ndarray:
    """Smooth colors with edges and some noise, (height, width, 3) uint8."""
    random = np.random.RandomState(seed)
    coarse = Image.fromarray(random.randint(0, 256, (7, 9, 3)).astype(np.uint8))
    image = np.array(coarse.resize((width, height), Image.Resampling.BICUBIC)).astype(int)
    image[height // 4:height // 2, width // 3:width // 2] = random.randint(0, 256, 3)
    return (image + random.randint(-9, 10, image.shape)).clip(0, 255).astype(np.uint8)


def stack(images: Sequence[np.ndarray]) -> np.ndarray:
    """Images (h, w, 3) as one batch (B, 3, H, W), with garbage around them, which the network must not see."""
    height, width = (max(image.shape[axis] for image in images) for axis in (0, 1))
    batch = np.random.RandomState(0).randint(0, 256, (len(images), 3, height, width)).astype(np.uint8)
    for canvas, image in zip(batch, images, strict=True):
        canvas[:, :image.shape[0], :image.shape[1]] = image.transpose(2, 0, 1)
    return batch


def as_inputs(images: Sequence[np.ndarray]) -> list[dict]:
    """Images (h, w, 3) as what a pipeline gives."""
    return [{'inputs': torch.from_numpy(image.transpose(2, 0, 1).copy()), 'data_samples': DetDataSample(
        metainfo={'img_shape': image.shape[:2], 'ori_shape': image.shape[:2]})} for image in images]


def compare(found: Any, wanted: Any, limits: Limits) -> Differences:
    """Compare the detections of one image as sets: where scores are nearly equal, their order is left to chance.

    Args:
        found, wanted: `Found`, or another kind with its fields.
    """
    if not len(found.scores) or not len(wanted.scores):
        apart = 0.0 if len(found.scores) == len(wanted.scores) else np.inf
        return Differences(apart, apart)
    boxes = np.abs(found.boxes[:, None] - wanted.boxes[None]).max(axis=2)
    scores = np.abs(found.scores[:, None] - wanted.scores[None])
    labels = found.labels[:, None] != wanted.labels[None]
    # How far apart two are, in units of what is allowed.
    rows, columns = linear_sum_assignment(
        np.minimum(boxes / limits.boxes + scores / limits.scores, 1e6) + 1e7 * labels)
    # The last ones may be others, of nearly the same score, that just made it into the list.
    last = max(found.scores[-1], wanted.scores[-1]) + limits.scores
    counted = (found.scores[rows] > last) | (wanted.scores[columns] > last) | ~labels[rows, columns]
    rows, columns = rows[counted], columns[counted]
    lonely = [*np.delete(found.scores, rows), *np.delete(wanted.scores, columns)]
    if labels[rows, columns].any() or max(lonely, default=0) > last:
        return Differences(np.inf, np.inf, compared=len(wanted.scores))
    return Differences(float(boxes[rows, columns].max(initial=0)), float(scores[rows, columns].max(initial=0)),
                       int((rows != columns).sum()), len(wanted.scores))


def _solid(found: Sequence[np.ndarray]) -> list[Found]:
    """The detections of each image that are not empty."""
    return [Found(*(array[(boxes[:, 2:] > boxes[:, :2]).all(axis=1)] for array in (boxes, scores, labels)))
            for boxes, scores, labels in zip(*found, strict=True)]
