"""What a package beside this one would hold: its own proposal head, stage and assigner, registered by import.

None is a good detector. Each is the least that fills its slot in another way than Sparse R-CNN does.
"""
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sparse_rcnn_mm.models import HungarianAssigner
from sparse_rcnn_mm.models.structures import Proposals, StageOutput
from sparse_rcnn_mm.registry import MODELS, TASK_UTILS


@MODELS.register_module()
class ProposalsFromFeatures(nn.Module):
    """The cells of the finest level with the highest objectness propose their surroundings, as DDQ R-CNN does."""

    def __init__(self, *, num_proposals: int, channels: int, stride: int) -> None:
        super().__init__()
        self.num_proposals, self.stride = num_proposals, stride
        self.objectness = nn.Conv2d(channels, 1, 1)
        self.size = nn.Conv2d(channels, 2, 1)
        self.query = nn.Conv2d(channels, channels, 1)

    def forward(self, feats: list[Tensor], img_whwh: Tensor) -> Proposals:
        finest = feats[0]
        score = self.objectness(finest).flatten(1)
        _, cell = score.topk(self.num_proposals)
        centre = (torch.stack([cell % finest.shape[3], cell // finest.shape[3]], dim=-1) + 0.5) * self.stride
        size = self._at(self.size(finest), cell).sigmoid() * img_whwh[..., :2]
        # The score weighs the query, so that it is trained.
        queries = self._at(self.query(finest), cell) * score.gather(1, cell).sigmoid()[..., None]
        return Proposals(torch.cat([centre - size / 2, centre + size / 2], dim=-1), queries)

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
