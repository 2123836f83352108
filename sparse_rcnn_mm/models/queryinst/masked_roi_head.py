"""The stages of Sparse R-CNN, each with an additional mask head (section 3 of the paper)."""
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
    """Computes masks of a stage on demand, after the stage has run: `masks(rows, labels)`."""
    head: nn.Module
    roi_extractor: RoIExtractor
    pyramid: Pyramid
    boxes: Tensor  # (B, N, 4), predicted by the stage
    queries: Tensor  # (B, N, C), the input of the stage
    attend: Callable[[Tensor], Tensor]

    def __call__(self, rows: Tensor, labels: Tensor) -> Tensor:
        """Compute the logits (M, 2P, 2P) for `rows` (M,) of the B * N proposals, and the class (M,) of each."""
        images = rows // self.boxes.shape[1] % self.pyramid.batch
        mask_feats = self.roi_extractor.pool(self.pyramid, self.boxes.detach().flatten(0, 1)[rows], images)
        # The stage returns the queries after its dynamic convolution, not the attended queries, so attention runs
        # again. For a few hundred queries this costs next to nothing compared with a single mask.
        return self.head(mask_feats, self.attend(self.queries).flatten(0, 1)[rows], labels)


@MODELS.register_module()
class MaskedRoIHead(SparseRoIHead):
    """Refines proposals stage by stage. The output of each stage can predict masks for its boxes.

    Masks are predicted from the queries after the self-attention of the stage, which must have a method `attend`.

    Args:
        bbox_head, num_stages, order, roi_extractor, with_cp: as in `SparseRoIHead`.
        mask_head: the config of a mask head, built once per stage; or a list with a config or module for each stage.
            `mask_head(mask_feats, queries, labels) -> logits (M, 2P, 2P)`.
        mask_roi_extractor: a `RoIExtractor` whose `output_size` is P, or its config.
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
