"""The learned proposals (section 3.2 of the paper)."""
from __future__ import annotations

from torch import Tensor, nn

from sparse_rcnn_mm.registry import MODELS

from .box_ops import cxcywh_to_xyxy
from .structures import Proposals


@MODELS.register_module()
class EmbeddingRPNHead(nn.Module):
    """Learned proposal boxes and proposal features, the same for every image.

    Args:
        num_proposals: N.
        proposal_feature_channel: C.
    """

    def __init__(self, *, num_proposals: int = 100, proposal_feature_channel: int = 256) -> None:
        super().__init__()
        self.init_proposal_bboxes = nn.Embedding(num_proposals, 4)
        self.init_proposal_features = nn.Embedding(num_proposals, proposal_feature_channel)
        # Normalized center and size: every proposal starts as the whole image.
        nn.init.constant_(self.init_proposal_bboxes.weight[:, :2], 0.5)
        nn.init.constant_(self.init_proposal_bboxes.weight[:, 2:], 1.0)

    @property
    def fixed_queries(self) -> Tensor:
        """The queries (N, C), which are the same for every image."""
        return self.init_proposal_features.weight

    def forward(self, feats: list[Tensor], img_whwh: Tensor) -> Proposals:
        """Scale the boxes to each image. `feats` is unused; other proposal heads look at the image."""
        boxes = cxcywh_to_xyxy(self.init_proposal_bboxes.weight) * img_whwh
        return Proposals(boxes, self.fixed_queries.expand(img_whwh.shape[0], -1, -1))
