"""The learned proposals (section 3.2 of the paper)."""
from __future__ import annotations

import torch
from torch import Tensor, nn

from sparse_rcnn_mm.errors import UserError
from sparse_rcnn_mm.registry import MODELS

from .box_ops import cxcywh_to_xyxy
from .structures import Proposals


@MODELS.register_module()
class EmbeddingRPNHead(nn.Module):
    """Learned proposal boxes and proposal features, the same for every image.

    Args:
        num_proposals: N.
        proposal_feature_channel: C.
        grid: rows and columns of the cells as which the boxes start, in turn. By default, all start as the image.
    """

    def __init__(self, *, num_proposals: int = 100, proposal_feature_channel: int = 256,
                 grid: tuple[int, int] = (1, 1)) -> None:
        super().__init__()
        if not (isinstance(grid, (list, tuple)) and [type(side) for side in grid] == [int, int] and min(grid) > 0):
            raise UserError(f'grid of EmbeddingRPNHead must be two positive integers, rows and columns, not {grid!r}')
        self.init_proposal_bboxes = nn.Embedding(num_proposals, 4)
        self.init_proposal_features = nn.Embedding(num_proposals, proposal_feature_channel)
        # Cell 0, 1, ... of the grid: normalized center and size.
        cell, shape = torch.arange(num_proposals), torch.tensor(grid[::-1])
        place = torch.stack([cell % grid[1], cell // grid[1] % grid[0]], dim=1)
        self.init_proposal_bboxes.weight.data = torch.cat([(place + 0.5) / shape, (1 / shape).expand_as(place)], dim=1)

    @property
    def fixed_queries(self) -> Tensor:
        """The queries (N, C), which are the same for every image."""
        return self.init_proposal_features.weight

    def forward(self, feats: list[Tensor], img_whwh: Tensor) -> Proposals:
        """Scale the boxes to each image. `feats` is unused; other proposal heads look at the image."""
        boxes = cxcywh_to_xyxy(self.init_proposal_bboxes.weight) * img_whwh
        return Proposals(boxes, self.fixed_queries.expand(img_whwh.shape[0], -1, -1))
