"""Turns the output of the last stage into detections."""
from __future__ import annotations

from torch import Tensor

from sparse_rcnn_mm.ops import at_least_float32
from sparse_rcnn_mm.registry import MODELS

from .structures import Detections, StageOutput


@MODELS.register_module()
class TopKDetections:
    """The k best pairs of proposal and class of each image: no threshold, no NMS.

    Args:
        max_per_img: k. Default: the number of proposals.
    """

    def __init__(self, *, max_per_img: int | None = None) -> None:
        self.max_per_img = max_per_img

    def __call__(self, output: StageOutput) -> Detections:
        scores: Tensor = at_least_float32(output.logits).sigmoid()
        _, num_proposals, num_classes = scores.shape
        k = min(self.max_per_img or num_proposals, num_proposals * num_classes)
        scores, flat = scores.flatten(1).topk(k)
        proposals = flat // num_classes
        boxes = output.boxes.gather(1, proposals[..., None].expand(-1, -1, 4))
        return Detections(scores, flat % num_classes, boxes, proposals)
