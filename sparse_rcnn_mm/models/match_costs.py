"""The costs for matching predictions with ground truths (section 3.4 of the paper)."""
from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from sparse_rcnn_mm.errors import UserError
from sparse_rcnn_mm.registry import TASK_UTILS

from .box_ops import overlaps


class Pairs(NamedTuple):
    """All pairs of a ground truth t and a proposal n of its image, in every stage s. A cost maps them to (T, S, N)."""
    logits: Tensor  # (T, S, N), of the ground truth's class
    boxes: Tensor  # (T, S, N, 4)
    gt_boxes: Tensor  # (T, 1, 1, 4)
    img_whwh: Tensor  # (T, 1, 1, 4)


@TASK_UTILS.register_module()
class FocalLossCost:
    """Focal loss (arXiv 1708.02002) of the true class as a positive, minus its loss as a negative."""

    def __init__(self, weight: float = 1., alpha: float = 0.25, gamma: float = 2., eps: float = 1e-8) -> None:
        self.weight, self.alpha, self.gamma, self.eps = weight, alpha, gamma, eps

    def __call__(self, pairs: Pairs) -> Tensor:
        p = pairs.logits.sigmoid()
        positive = -self.alpha * (1 - p)**self.gamma * (p + self.eps).log()
        negative = -(1 - self.alpha) * p**self.gamma * (1 - p + self.eps).log()
        return self.weight * (positive - negative)


@TASK_UTILS.register_module()
class BBoxL1Cost:
    """L1 distance of the corners, relative to the image's width and height."""

    def __init__(self, weight: float = 1.) -> None:
        self.weight = weight

    def __call__(self, pairs: Pairs) -> Tensor:
        return self.weight * (pairs.boxes / pairs.img_whwh - pairs.gt_boxes / pairs.img_whwh).abs().sum(-1)


@TASK_UTILS.register_module()
class IoUCost:
    """Negative IoU or GIoU; `iou_mode` is 'giou' or 'iou'."""

    def __init__(self, weight: float = 1., iou_mode: str = 'giou') -> None:
        if iou_mode not in ('iou', 'giou'):
            raise UserError(f"iou_mode of IoUCost must be 'iou' or 'giou', not {iou_mode!r}")
        self.weight, self.iou_mode = weight, iou_mode

    def __call__(self, pairs: Pairs) -> Tensor:
        iou, giou = overlaps(pairs.boxes, pairs.gt_boxes)
        return -self.weight * (giou if self.iou_mode == 'giou' else iou)
