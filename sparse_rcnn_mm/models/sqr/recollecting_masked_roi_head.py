"""Selective query recollection for stages with masks."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sparse_rcnn_mm.registry import MODELS, Part

from ..queryinst.masked_roi_head import MaskedRoIHead
from .recollecting_roi_head import RecollectingRoIHead, checked


@MODELS.register_module()
class RecollectingMaskedRoIHead(RecollectingRoIHead, MaskedRoIHead):
    """`RecollectingRoIHead` on top of `MaskedRoIHead`: every group of queries also predicts masks.

    Prediction and checkpoints are those of `MaskedRoIHead`. No results have been published for this combination.

    Args:
        bbox_head, num_stages, order, roi_extractor, with_cp, mask_head, mask_roi_extractor: as in `MaskedRoIHead`.
        recollect: as in `RecollectingRoIHead`.
    """

    def __init__(self, *, bbox_head: dict[str, Any] | Sequence[Part], num_stages: int = 6,
                 order: Sequence[int] | None = None, roi_extractor: Part, with_cp: bool = False,
                 mask_head: dict[str, Any] | Sequence[Part], mask_roi_extractor: Part, recollect: int = 2) -> None:
        MaskedRoIHead.__init__(self, bbox_head=bbox_head, num_stages=num_stages, order=order,
                               roi_extractor=roi_extractor, with_cp=with_cp, mask_head=mask_head,
                               mask_roi_extractor=mask_roi_extractor)
        self.recollect = checked(recollect)
