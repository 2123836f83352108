"""Converts the last stage's output to detections with masks."""
from __future__ import annotations

import torch

from sparse_rcnn_mm.ops import at_least_float32
from sparse_rcnn_mm.registry import MODELS

from ..structures import StageOutput
from ..top_k import TopKDetections
from .structures import MaskedDetections, MaskedStageOutput


@MODELS.register_module()
class TopKMasks(TopKDetections):
    """Selects the k best pairs of proposal and class of each image, each with the mask of its class.

    Args:
        max_per_img: k. Default: the number of proposals.
    """

    def __call__(self, output: MaskedStageOutput) -> MaskedDetections:  # type: ignore[override]
        found = super().__call__(StageOutput(output.logits, output.boxes, output.queries))
        batch, num_proposals = output.boxes.shape[:2]
        first = num_proposals * torch.arange(batch, device=found.proposals.device)
        masks = output.masks((found.proposals + first[:, None]).flatten(), found.labels.flatten())
        return MaskedDetections(*found, at_least_float32(masks).sigmoid().unflatten(0, (batch, -1)), found.boxes)
