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
    """Refines proposals stage by stage.

    A stage is any module `stage(pyramid, proposals) -> StageOutput` with an attribute `num_classes`. The first stage
    gets the proposals, every other stage the complete output of the previous one.

    Args:
        bbox_head: the config of one stage, which is built `num_stages` times; or a list of stages, configs or built.
        num_stages: the number of stages with their own weights.
        order: stage indices in the order of running. Default: each once. `num_stages=1, order=[0] * 6` ties six stages.
        roi_extractor: turns the feature levels into the pyramid that all stages share; a config or a built module.
        with_cp: activation checkpointing in training: keep only the inputs of a stage and run it again in the backward
            pass. Takes less memory and more time. mmdet's backbones use the same name.
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
        """K of the stage that runs last."""
        return self.bbox_head[self.order[-1]].num_classes  # type: ignore[return-value]

    def forward(self, feats: Sequence[Tensor], proposals: Proposals) -> list[StageOutput]:
        """Return the outputs of all stages, in the order in which they ran."""
        pyramid = self.roi_extractor(feats)
        outputs: list[StageOutput] = []
        for index in self.order:
            outputs.append(self.run(index, pyramid, self.start(proposals, outputs)))
        return outputs

    def start(self, proposals: Proposals, outputs: Sequence[StageOutput]) -> Proposals | StageOutput:
        """Return the input of the next stage, given the `outputs` so far."""
        # Each stage is trained only on its own step: gradients flow between stages through queries, not boxes.
        return outputs[-1]._replace(boxes=outputs[-1].boxes.detach()) if outputs else proposals

    def run(self, index: int, pyramid: Any, start: Proposals | StageOutput) -> StageOutput:
        """Run one stage."""
        stage = self.bbox_head[index]
        if self.with_cp and torch.is_grad_enabled():
            return checkpoint(stage, pyramid, start, use_reentrant=False)
        return stage(pyramid, start)
