"""The iterative part of Sparse R-CNN: a list of stages, run one after the other."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from sparse_rcnn_mm.registry import MODELS, Part, build

from .structures import Proposals, StageOutput


@MODELS.register_module()
class SparseRoIHead(nn.Module):
    """Refine proposals stage by stage.

    A stage is any module `stage(pyramid, proposals) -> StageOutput` with an attribute `num_classes`. It gets what came
    before whole: the proposals, or the output of the stage before.

    Args:
        bbox_head: config of one stage, which is built `num_stages` times; or a list of stages, configs or built.
        num_stages: stages with weights of their own.
        order: which stage runs when, as indices; default each once. `num_stages=1, order=[0] * 6` ties six stages.
        roi_extractor: turns the feature levels into the pyramid that all stages share; a config, or built already.
        with_cp: in training keep only what enters a stage, and run it again in the backward pass, which takes less
            memory and more time. The name is that of mmdet's backbones.
    """

    def __init__(self, *, bbox_head: dict[str, Any] | Sequence[Part], num_stages: int = 6,
                 order: Sequence[int] | None = None, roi_extractor: Part, with_cp: bool = False) -> None:
        super().__init__()
        stages = [bbox_head] * num_stages if isinstance(bbox_head, dict) else bbox_head
        self.bbox_head = nn.ModuleList(build(MODELS, stage) for stage in stages)
        self.order = list(range(len(self.bbox_head))) if order is None else list(order)
        self.roi_extractor = build(MODELS, roi_extractor)
        self.with_cp = with_cp

    @property
    def num_classes(self) -> int:
        """K, of the stage that runs last."""
        return self.bbox_head[self.order[-1]].num_classes  # type: ignore[return-value]

    def forward(self, feats: Sequence[Tensor], proposals: Proposals) -> list[StageOutput]:
        """The outputs of all stages, in the order in which they ran."""
        pyramid = self.roi_extractor(feats)
        outputs: list[StageOutput] = []
        for index in self.order:
            outputs.append(self.run(index, pyramid, self.start(proposals, outputs)))
        return outputs

    def start(self, proposals: Proposals, outputs: Sequence[StageOutput]) -> Proposals | StageOutput:
        """What the next stage gets, after those that gave `outputs`."""
        # Each stage answers for its own step only: the gradient flows on through the queries, not through the boxes.
        return outputs[-1]._replace(boxes=outputs[-1].boxes.detach()) if outputs else proposals

    def run(self, index: int, pyramid: Any, start: Proposals | StageOutput) -> StageOutput:
        """Run one stage."""
        stage = self.bbox_head[index]
        if self.with_cp and torch.is_grad_enabled():
            return checkpoint(stage, pyramid, start, use_reentrant=False)
        return stage(pyramid, start)
