"""Learned queries that all start with the whole image."""
from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sparse_rcnn_mm.registry import MODELS

from ..box_ops import cxcywh_to_xyxy
from ..structures import Proposals
from .xyzr import XYZRProposals, xyzr_of


@MODELS.register_module()
class WholeImageProposals(nn.Module):
    """Fixed boxes that cover the whole image, and learned, normalized queries.

    Args:
        num_proposals: N.
        proposal_feature_channel: C.
    """

    def __init__(self, *, num_proposals: int = 100, proposal_feature_channel: int = 256) -> None:
        super().__init__()
        # Official checkpoints contain the boxes. Frozen, since DistributedDataParallel would wait for a gradient.
        self.init_proposal_bboxes = nn.Embedding.from_pretrained(
            torch.tensor([[0.5, 0.5, 1., 1.]]).repeat(num_proposals, 1), freeze=True)
        self.init_content_features = nn.Embedding(num_proposals, proposal_feature_channel)

    def forward(self, feats: list[Tensor], img_whwh: Tensor) -> XYZRProposals:
        """Scale the boxes to each image. `feats` is unused; other proposal heads look at the image."""
        boxes = cxcywh_to_xyxy(self.init_proposal_bboxes.weight) * img_whwh
        queries = F.layer_norm(self.init_content_features.weight, self.init_content_features.weight.shape[1:])
        queries = queries.expand(len(img_whwh), -1, -1)
        return XYZRProposals(boxes, queries, xyzr_of(Proposals(boxes, queries)))
