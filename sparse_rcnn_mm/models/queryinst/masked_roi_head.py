"""The stages of Sparse R-CNN, each with a mask head beside it (section 3 of the paper)."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from sparse_rcnn_mm.registry import MODELS, Part, build

from ..roi_extractor import Pyramid, RoIExtractor
from ..sparse_roi_head import SparseRoIHead
from ..structures import Proposals, StageOutput
from .structures import MaskedStageOutput


@dataclass(frozen=True)
class PredictMasks:
    """The masks of a stage, once it has run: `masks(rows, labels)` computes those that are asked for."""
    head: nn.Module
    roi_extractor: RoIExtractor
    pyramid: Pyramid
    boxes: Tensor  # (B, N, 4), those that the stage gave
    queries: Tensor  # (B, N, C), those that the stage got
    attend: Callable[[Tensor], Tensor]

    def __call__(self, rows: Tensor, labels: Tensor) -> Tensor:
        """Rows (M,) of the B * N proposals, and the class (M,) of each, to logits (M, 2P, 2P)."""
        images = rows // self.boxes.shape[1] % self.pyramid.batch
        mask_feats = self.roi_extractor.pool(self.pyramid, self.boxes.detach().flatten(0, 1)[rows], images)
        # The stage keeps what its dynamic convolution made of the attended queries, not these. Attention among a few
        # hundred queries is next to nothing beside the mask of one.
        return self.head(mask_feats, self.attend(self.queries).flatten(0, 1)[rows], labels)


@MODELS.register_module()
class MaskedRoIHead(SparseRoIHead):
    """Refine proposals stage by stage; the output of each stage predicts masks in its boxes.

    A mask comes from the queries after the self-attention of its stage, which has to have a method `attend`.

    Args:
        bbox_head, num_stages, order, roi_extractor, with_cp: as of `SparseRoIHead`.
        mask_head: config of one mask head, which is built once for every stage; or a list of them, configs or built.
            `mask_head(mask_feats, queries, labels) -> logits (M, 2P, 2P)`.
        mask_roi_extractor: a `RoIExtractor`, or its config, whose `output_size` is P.
    """

    def __init__(self, *, bbox_head: dict[str, Any] | Sequence[Part], num_stages: int = 6,
                 order: Sequence[int] | None = None, roi_extractor: Part, with_cp: bool = False,
                 mask_head: dict[str, Any] | Sequence[Part], mask_roi_extractor: Part) -> None:
        super().__init__(bbox_head=bbox_head, num_stages=num_stages, order=order, roi_extractor=roi_extractor,
                         with_cp=with_cp)
        heads = [mask_head] * len(self.bbox_head) if isinstance(mask_head, dict) else mask_head
        self.mask_head = nn.ModuleList(build(MODELS, head) for head in heads)
        self.mask_roi_extractor = build(MODELS, mask_roi_extractor)

    def run(self, index: int, pyramid: Any, start: Proposals | StageOutput) -> MaskedStageOutput:  # type: ignore[override]
        """Run one stage."""
        output = super().run(index, pyramid, start)
        masks = PredictMasks(self.mask_head[index], self.mask_roi_extractor, pyramid, output.boxes, start.queries,
                             self.bbox_head[index].attend)  # type: ignore[arg-type]
        return MaskedStageOutput(output.logits, output.boxes, output.queries, masks)
