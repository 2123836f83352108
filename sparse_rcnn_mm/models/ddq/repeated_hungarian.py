"""Matching of dense predictions. Several predictions may share a ground truth."""
from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from sparse_rcnn_mm.errors import NotFinite
from sparse_rcnn_mm.registry import TASK_UTILS, Part, build

from ..match_costs import Pairs
from ..structures import GroundTruth
from .structures import DensePredictions


@TASK_UTILS.register_module()
class RepeatedHungarianAssigner:
    """The assignment of least total cost in which every ground truth of an image has the same number of matches.

    Args:
        match_costs: the costs to add up, each with its weight; configs or built costs.
        matches: the number of matches per ground truth. There are fewer if an image has too few candidates.
    """

    def __init__(self, match_costs: Sequence[Part], matches: int = 1) -> None:
        self.match_costs = [build(TASK_UTILS, cost) for cost in match_costs]
        self.matches = matches

    @torch.no_grad()
    def __call__(self, dense: DensePredictions, gt: GroundTruth) -> Tensor:
        """Return `matched_gt` (B, M) long: the ground truth of its image that a candidate is matched to, or -1.

        Raises:
            NotFinite: a prediction or a ground truth is not finite.
        """
        pairs = Pairs(logits=dense.scores[gt.image, :, gt.labels].logit()[:, None],
                      boxes=dense.boxes[gt.image][:, None],
                      gt_boxes=gt.boxes[:, None, None], img_whwh=gt.img_whwh[gt.image, None])
        on_device: Tensor = sum(cost(pairs) for cost in self.match_costs)
        costs, kept = on_device[:, 0].cpu().numpy(), dense.kept.cpu().numpy()
        matched_gt = np.full(kept.shape, -1, dtype=np.int64)
        for image, (count, end) in enumerate(zip(gt.counts, np.cumsum(gt.counts), strict=True)):
            columns = np.flatnonzero(kept[image])
            cost = costs[end - count:end, columns]
            if not np.isfinite(cost).all():
                predictions = not (dense.scores.isfinite().all() and dense.boxes.isfinite().all())
                subject = 'dense predictions' if predictions else 'costs of ground-truth boxes'
                raise NotFinite(f'the {subject} are not finite', predictions)
            matched_gt[image, columns] = self.match(cost)
        return torch.from_numpy(matched_gt).to(dense.boxes.device)

    def match(self, cost: np.ndarray) -> np.ndarray:
        """The cost (G, M) of one image to `matched_gt` (M,)."""
        from scipy.sparse import csr_array  # only training needs it
        from scipy.sparse.csgraph import min_weight_full_bipartite_matching
        num_gts, candidates = cost.shape
        matched_gt = np.full(candidates, -1, dtype=np.int64)
        each = min(self.matches, candidates // max(num_gts, 1))
        total = each * num_gts
        if total:
            # Even if all others are matched, one of its `total` cheapest candidates is free, so the others are not
            # needed. On such a sparse graph this takes less than half the time of SciPy's dense solver.
            near = np.sort(np.argpartition(cost, total - 1, axis=1)[:, :total], axis=1)
            values = np.take_along_axis(cost, near, axis=1).astype(np.float64)
            values += 1 - values.min()  # a sparse matrix cannot store zeros
            values, near = np.repeat(values, each, axis=0), np.repeat(near, each, axis=0)
            graph = csr_array((values.ravel(), near.ravel(), np.arange(0, total * total + 1, total)),
                              shape=(total, candidates))
            copies, chosen = min_weight_full_bipartite_matching(graph)
            matched_gt[chosen] = copies // each
        return matched_gt
