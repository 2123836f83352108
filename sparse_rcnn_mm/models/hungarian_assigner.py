"""One-to-one matching of predictions and ground truths (section 3.4 of the paper; DETR, arXiv 2005.12872)."""
from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from sparse_rcnn_mm.errors import NotFinite
from sparse_rcnn_mm.registry import TASK_UTILS, Part, build

from .match_costs import Pairs
from .structures import GroundTruth


@TASK_UTILS.register_module()
class HungarianAssigner:
    """The assignment of least total cost, for each image and each stage separately.

    All costs are computed on the device and copied to the host at once.

    Args:
        match_costs: the costs to add up, each with its weight; configs or built costs.
    """

    def __init__(self, match_costs: Sequence[Part]) -> None:
        self.match_costs = [build(TASK_UTILS, cost) for cost in match_costs]

    @torch.no_grad()
    def __call__(self, logits: Tensor, boxes: Tensor, gt: GroundTruth) -> Tensor:
        """Match S stages of predictions at once.

        Args:
            logits, boxes: (S, B, N, K) and (S, B, N, 4), float32 or float64.
            gt: the ground truths of the batch.

        Returns:
            `matched_gt` (S, B, N) long: the ground truth of its image that each proposal is matched to, or -1.

        Raises:
            NotFinite: a prediction or a ground truth is not finite.
        """
        pairs = Pairs(logits=logits[:, gt.image, :, gt.labels],
                      boxes=boxes.transpose(0, 1)[gt.image], gt_boxes=gt.boxes[:, None, None],
                      img_whwh=gt.img_whwh[gt.image, None])
        on_device: Tensor = sum(cost(pairs) for cost in self.match_costs)
        finite = logits.isfinite().all() & boxes.isfinite().all() & on_device.isfinite().all()
        host = torch.cat([on_device.flatten(), finite[None].to(on_device.dtype)]).cpu().numpy()
        costs = host[:-1].reshape(on_device.shape)  # (T, S, N)
        if not host[-1]:
            raise _not_finite(logits, boxes)
        matched_gt = np.full(logits.shape[:3], -1, dtype=np.int64)
        for image, (count, end) in enumerate(zip(gt.counts, np.cumsum(gt.counts), strict=True)):
            for stage in range(len(logits)):
                matched_gt[stage, image] = self.match(costs[end - count:end, stage])
        return torch.from_numpy(matched_gt).to(logits.device)

    @staticmethod
    def match(cost: np.ndarray) -> np.ndarray:
        """Cost (G, N) of one image to `matched_gt` (N,). If G > N, the most expensive ground truths stay unmatched."""
        from scipy.optimize import linear_sum_assignment  # only training needs it
        matched_gt = np.full(cost.shape[1], -1, dtype=np.int64)
        rows, columns = linear_sum_assignment(cost)
        matched_gt[columns] = rows
        return matched_gt


def _not_finite(logits: Tensor, boxes: Tensor) -> NotFinite:
    """The error that says which predictions (S, B, N, ...) are not finite, or that ground truths are to blame."""
    bad = (~(logits.isfinite().all(-1) & boxes.isfinite().all(-1))).nonzero().tolist()
    if not bad:
        return NotFinite('the costs of ground-truth boxes are not finite')
    return NotFinite(f'the predictions are not finite (from stage {bad[0][0] + 1} on, first in image {bad[0][1] + 1} '
                     'of the batch)', predictions=True)
