"""What a package beside this one would hold: parts of its own for every slot, registered by import.

None is a good detector. Each is the least that fills its slot in another way than Sparse R-CNN does.
"""
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sparse_rcnn_mm.models import HungarianAssigner, SparseRoIHead
from sparse_rcnn_mm.models.structures import GroundTruth, Proposals, StageOutput
from sparse_rcnn_mm.registry import MODELS, TASK_UTILS


class DenseProposals(NamedTuple):
    """Proposals with the objectness of every cell, for a criterion of its own."""
    boxes: Tensor  # (B, N, 4)
    queries: Tensor  # (B, N, C)
    objectness: Tensor  # (B, H, W), logits
    stride: int


@MODELS.register_module()
class ProposalsFromFeatures(nn.Module):
    """The cells of the finest level with the highest objectness propose their surroundings, as DDQ R-CNN does."""

    def __init__(self, *, num_proposals: int, channels: int, stride: int) -> None:
        super().__init__()
        self.num_proposals, self.stride = num_proposals, stride
        self.objectness = nn.Conv2d(channels, 1, 1)
        self.size = nn.Conv2d(channels, 2, 1)
        self.query = nn.Conv2d(channels, channels, 1)

    def forward(self, feats: list[Tensor], img_whwh: Tensor) -> DenseProposals:
        finest = feats[0]
        objectness = self.objectness(finest)[:, 0]
        score = objectness.flatten(1)
        _, cell = score.topk(self.num_proposals)
        centre = (torch.stack([cell % finest.shape[3], cell // finest.shape[3]], dim=-1) + 0.5) * self.stride
        size = self._at(self.size(finest), cell).sigmoid() * img_whwh[..., :2]
        # The score weighs the query, so that it is trained.
        queries = self._at(self.query(finest), cell) * score.gather(1, cell).sigmoid()[..., None]
        boxes = torch.cat([centre - size / 2, centre + size / 2], dim=-1)
        return DenseProposals(boxes, queries, objectness, self.stride)

    @staticmethod
    def _at(feat: Tensor, cell: Tensor) -> Tensor:
        """(B, C, H, W) at cells (B, N) to (B, N, C)."""
        return feat.flatten(2).transpose(1, 2).gather(1, cell[..., None].expand(-1, -1, feat.shape[1]))


@MODELS.register_module()
class PointStage(nn.Module):
    """Each query reads all levels at points of its own choice, as in AdaMixer, and moves the four sides of its box."""

    def __init__(self, *, num_classes: int, channels: int, num_points: int = 8) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.offset = nn.Linear(channels, 2 * num_points)
        self.mix = nn.Sequential(nn.Linear(num_points * channels, channels), nn.ReLU(), nn.Linear(channels, channels))
        self.norm = nn.LayerNorm(channels)
        self.classify = nn.Linear(channels, num_classes)
        self.sides = nn.Linear(channels, 4)
        nn.init.constant_(self.classify.bias, -2.)

    def forward(self, pyramid: Any, proposals: Proposals | StageOutput) -> StageOutput:
        boxes, queries = proposals.boxes, proposals.queries
        size = (boxes[..., 2:] - boxes[..., :2]).repeat(1, 1, 2)
        centre = (boxes[..., :2] + boxes[..., 2:]) / 2
        points = centre[:, :, None] + self.offset(queries).unflatten(-1, (-1, 2)) * size[:, :, None, :2] / 2
        sampled = sum(self._sample(feat, points, stride)
                      for feat, stride in zip(pyramid.feats, pyramid.strides, strict=True))
        queries = self.norm(queries + self.mix(sampled.flatten(2)))
        moved = boxes + size * self.sides(queries).tanh() / 2
        return StageOutput(self.classify(queries), moved, queries)

    @staticmethod
    def _sample(feat: Tensor, points: Tensor, stride: int) -> Tensor:
        """(B, C, H, W) at points (B, N, P, 2) in pixels of the image to (B, N, P, C)."""
        grid = 2 * points / (stride * points.new_tensor([feat.shape[3], feat.shape[2]])) - 1
        return F.grid_sample(feat, grid, align_corners=False).permute(0, 2, 3, 1)


@TASK_UTILS.register_module()
class TwoToOneAssigner(HungarianAssigner):
    """Two proposals for every ground truth, at the least total cost."""

    @staticmethod
    def match(cost: np.ndarray) -> np.ndarray:
        matched_gt = HungarianAssigner.match(np.concatenate([cost, cost]))
        return np.where(matched_gt >= 0, matched_gt % len(cost), -1) if len(cost) else matched_gt


class Remembered(NamedTuple):
    """A stage's output with state of its own."""
    logits: Tensor  # (B, N, K)
    boxes: Tensor  # (B, N, 4)
    queries: Tensor  # (B, N, C)
    memory: Tensor  # (B, N, C)


@MODELS.register_module()
class RememberingStage(PointStage):
    """Hands on a running mean of the queries; its own fast form leaves it as it is, and counts that it was asked."""

    asked = 0

    def forward(self, pyramid: Any, proposals: Any) -> Remembered:
        memory = getattr(proposals, 'memory', torch.zeros_like(proposals.queries))
        output = super().forward(pyramid, Proposals(proposals.boxes, proposals.queries + memory))
        return Remembered(*output, memory=(memory + output.queries) / 2)

    def for_prediction(self, classify: bool, queries: Tensor | None) -> nn.Module:
        RememberingStage.asked += 1
        return self


@MODELS.register_module()
class TwoGroupsRoIHead(SparseRoIHead):
    """Trains a second group of queries, the first one turned around, which shares the stages (arXiv 2207.13085)."""

    def start(self, proposals: Proposals, outputs: Sequence[StageOutput]) -> Proposals | StageOutput:
        if outputs or not self.training:
            return super().start(proposals, outputs)
        return Proposals(proposals.boxes.repeat(2, 1, 1), torch.cat([proposals.queries, -proposals.queries]))


@MODELS.register_module()
class ObjectnessCriterion(nn.Module):
    """Cells in a ground truth are objects: a loss on dense predictions that the proposals carry."""

    def forward(self, stages: Sequence[StageOutput], gt: GroundTruth, proposals: DenseProposals) -> dict[str, Tensor]:
        logits = proposals.objectness
        rows, columns = ((torch.arange(size, device=logits.device) + 0.5) * proposals.stride
                         for size in logits.shape[1:])
        x1, y1, x2, y2 = (side[:, None, None] for side in gt.boxes.unbind(-1))
        inside = (columns > x1) & (columns < x2) & (rows[:, None] > y1) & (rows[:, None] < y2)
        target = torch.zeros_like(logits).index_add_(0, gt.image, inside.to(logits.dtype)).clamp(max=1)
        return {'loss_objectness': F.binary_cross_entropy_with_logits(logits, target)}
