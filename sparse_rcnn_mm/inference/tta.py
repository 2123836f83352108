"""The authors' test-time augmentation: one image at many sizes and mirrored, merged by soft voting.

Source: `SparseRCNNWithTTA` of the official code with the settings of its config. Everything is computed in float32, in
the order of that code.
"""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from sparse_rcnn_mm.acceleration.prediction import FastForm
from sparse_rcnn_mm.errors import UserError
from sparse_rcnn_mm.models import SparseRCNN
from sparse_rcnn_mm.models.structures import Detections
from sparse_rcnn_mm.runtime.preprocessing import resize, resized_shape

from .backend import Found, not_finite
from .box_voting import Candidates, soft_vote

# The short side for which the authors chose their sizes.
OFFICIAL_SHORT_SIDE = 800
# Steps of a test pipeline that do not change pixels.
_OTHER_STEPS = ('LoadRGBImage', 'LoadImageFromFile', 'LoadAnnotations', 'PackDetInputs')

Pipeline = Sequence[Mapping[str, Any]]
Size = tuple[int, int]  # height, width


@dataclass(frozen=True)
class TTA:
    """The sizes of an image to detect at, and the boxes to keep at each size.

    Attributes:
        short_sides: lengths of the short side in pixels. Each size is used twice, the second time mirrored.
        max_long_side: the longest long side. Sizes that would exceed it are reduced.
        box_sides: the range of boxes to keep for each size: the area is above the square of the first number and below
            the square of the second, in pixels of the resized image.
        iou_thr, least_score: arguments of `soft_vote`.
        resize_first: resize to the size of the test pipeline first, and then to each size, as the authors do.
            Otherwise, the original image is resized to each size directly.
    """
    short_sides: Sequence[int] = (400, 500, 600, 640, 700, 900, 1000, 1100, 1200, 1300, 1400, 1800, 800)
    max_long_side: int | None = 4000
    box_sides: Sequence[tuple[float, float]] = (
        *[(96, 10000)] * 2, *[(64, 10000)] * 3, *[(0, 10000)] * 2, *[(0, 256)] * 2, *[(0, 192)] * 2, (0, 96),
        (0, 10000))
    iou_thr: float = 0.65
    least_score: float = 0.05
    resize_first: bool = False

    def __post_init__(self) -> None:
        if not self.short_sides or len(self.short_sides) != len(self.box_sides):
            raise UserError(f'test-time augmentation has {len(self.short_sides)} short_sides and {len(self.box_sides)} '
                            'box_sides: give one range of boxes for each size')
        if min(self.short_sides) < 1:
            raise UserError(f'test-time augmentation has a short side of {min(self.short_sides)} pixels')

    @classmethod
    def of(cls, choice: bool | str | TTA, pipeline: Pipeline) -> TTA:
        """Return the TTA that a choice means for a detector with this test pipeline.

        Args:
            choice: True for the authors' sizes; 'official' for the same with `resize_first`; or a TTA, which is not
                changed. The authors' sizes and ranges are for a test pipeline with a short side of 800 pixels; for
                other short sides they are scaled in proportion.

        Raises:
            UserError: it is none of these, or the pipeline does more than read, resize and pack.
        """
        side = short_side_of(pipeline)
        if isinstance(choice, TTA):
            return choice
        if choice not in (True, 'official'):
            raise UserError(f"tta is True, 'official' or a TTA, not {choice!r}")
        tta = cls(resize_first=choice == 'official')
        return tta.scaled((side or OFFICIAL_SHORT_SIDE) / OFFICIAL_SHORT_SIDE)

    def scaled(self, factor: float) -> TTA:
        """Return a copy with all lengths multiplied by `factor`."""
        if factor == 1:
            return self
        return replace(self, short_sides=tuple(max(round(side * factor), 1) for side in self.short_sides),
                       max_long_side=self.max_long_side and max(round(self.max_long_side * factor), 1),
                       box_sides=tuple((low * factor, high * factor) for low, high in self.box_sides))

    def pipeline(self, pipeline: Pipeline) -> list[Mapping[str, Any]]:
        """Return the test pipeline without its resizing, unless `resize_first` is set."""
        return [step for step in pipeline if self.resize_first or not _resizes(step)]

    def sizes(self, image: Size) -> list[Size]:
        """Return the (height, width) of the image at each size."""
        return [resized_shape(*image, side, self.max_long_side) for side in self.short_sides]


def _name(step: Mapping[str, Any]) -> str:
    kind = step['type']
    return kind.split('.')[-1] if isinstance(kind, str) else kind.__name__


def _resizes(step: Mapping[str, Any]) -> bool:
    return _name(step) in ('ResizeShortSide', 'Resize')


def short_side_of(pipeline: Pipeline) -> int | None:
    """Return the short side that a test pipeline resizes to, or None if it does not resize.

    Raises:
        UserError: the pipeline changes the pixels in another way.
    """
    side = None
    for step in pipeline:
        if _name(step) == 'ResizeShortSide' and isinstance(step['short_sides'], int):
            side = step['short_sides']
        elif _name(step) == 'ResizeShortSide' and len(step['short_sides']) == 1:
            side, = step['short_sides']
        elif _name(step) == 'Resize' and step.get('keep_ratio') and isinstance(step.get('scale'), Sequence):
            side = min(step['scale'])
        elif _name(step) not in _OTHER_STEPS:
            raise UserError(f'test-time augmentation does not know what to make of {_name(step)} in the test pipeline: '
                            'it may read, resize to one size (ResizeShortSide, or Resize with keep_ratio) and pack')
    return side


class AugmentedBackend:
    """A `Backend` that runs a network on each image at all sizes.

    Args:
        model: a detector or its fast form, on its device and in evaluation mode.
        tta: the sizes.
    """

    def __init__(self, model: SparseRCNN | FastForm, tta: TTA) -> None:
        self.model, self.tta = model, tta

    @torch.inference_mode()
    def __call__(self, inputs: Sequence[dict[str, Any]]) -> list[Found]:
        """Detect objects in images, one after the other. Each has the size that `TTA.pipeline` returns.

        Raises:
            NotFinite: boxes or scores are not finite.
        """
        return [self._detect(one['inputs'], one['data_samples'].ori_shape[:2]) for one in inputs]

    def _detect(self, image: Tensor, original: Size) -> Found:
        pixels = image.permute(1, 2, 0).cpu().numpy()
        now = pixels.shape[:2]

        def resized(size: Size) -> Tensor:
            view = pixels if size == now else resize(pixels, *size)
            return torch.from_numpy(view).permute(2, 0, 1).contiguous()

        sizes = self.tta.sizes(now)
        largest_first = sorted(set(sizes), reverse=True)  # so that memory kept from one pass is enough for the next
        with ThreadPoolExecutor(1) as pool:  # resizes in parallel with the network
            found = dict(zip(largest_first, map(self.look, pool.map(resized, largest_first)), strict=True))
        if not all(one.boxes.isfinite().all() and one.scores.isfinite().all() for one in found.values()):
            raise not_finite(self.model)
        kept = [kept_boxes(found[size], place, size, [now, original], limits)
                for size, limits in zip(sizes, self.tta.box_sides, strict=True) for place in (0, 1)]
        together = Candidates(*(torch.cat(parts) for parts in zip(*kept, strict=True)))
        voted = soft_vote(together, self.tta.iou_thr, self.tta.least_score)
        as_in_one_pass = found[sizes[0]].scores.shape[1]
        boxes, scores, labels = (part[:as_in_one_pass] for part in voted)
        height, width = original
        boxes = torch.minimum(boxes.clamp(min=0), boxes.new_tensor([width, height, width, height]))
        return Found(boxes.numpy(), scores.numpy(), labels.numpy())

    def look(self, view: Tensor) -> Detections:
        """Run one pass on an image (3, H, W) uint8 and its mirror image. Boxes are in their pixels, unclipped."""
        pair = [view, view.flip(2)]
        # On the CPU, one batch of two takes as long as two of one, and twice the memory.
        batches = [pair] if self.model.data_preprocessor.device.type != 'cpu' else [[one] for one in pair]
        return Detections(*map(torch.cat, zip(*map(self._pass, batches), strict=True)))

    def _pass(self, views: list[Tensor]) -> Detections:
        height, width = views[0].shape[1:]
        batch = self.model.data_preprocessor({'inputs': views, 'data_samples': None})['inputs']
        whwh = batch.new_tensor([[[width, height, width, height]]] * len(views))
        found = self.model.postprocessor(self.model.refine(batch, whwh)[1][-1])
        return found._replace(boxes=found.boxes.float(), scores=found.scores.float())


def kept_boxes(found: Detections, place: int, size: Size, targets: Sequence[Size],
               limits: tuple[float, float]) -> Candidates:
    """Select the boxes of one image of a pass whose size is within `limits`. Returns pixels of the original image.

    Args:
        place: 0 for the image, 1 for its mirror image.
        size: the size of the image in the pass.
        targets: the earlier sizes of the image, most recent first.
    """
    boxes, scores, labels = found.boxes[place], found.scores[place], found.labels[place]
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    low, high = limits
    kept = (area > low * low) & (area < high * high)
    boxes = boxes[kept]
    if place:
        boxes = torch.stack([size[1] - boxes[:, 2], boxes[:, 1], size[1] - boxes[:, 0], boxes[:, 3]], dim=1)
    for target in targets:
        if target != size:
            x_scale, y_scale = target[1] / size[1], target[0] / size[0]
            boxes = boxes * boxes.new_tensor([x_scale, y_scale, x_scale, y_scale])
        size = target
    return Candidates(boxes, scores[kept], labels[kept])
