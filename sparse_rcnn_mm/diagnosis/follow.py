"""Measures for each stage how many ground truths its boxes reach, and at what matching cost."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from sparse_rcnn_mm.models.box_ops import overlaps
from sparse_rcnn_mm.models.match_costs import Pairs
from sparse_rcnn_mm.models.set_criterion import SetCriterion
from sparse_rcnn_mm.models.sparse_rcnn import collect_ground_truth
from sparse_rcnn_mm.models.structures import GroundTruth

from .measurements import Stage


@torch.no_grad()
def follow(model: Any, batches: Sequence[dict]) -> list[Stage]:
    """Measure the proposals and every stage over all training batches. Empty if there is no ground truth."""
    rows: list[list[Tensor]] = []  # per batch and stage: (matches, 4) reached, cost, IoU, score
    criterion = next((one for one in model.criterion.modules() if isinstance(one, SetCriterion)), None)
    training = model.training
    model.eval()
    for batch in batches:
        data = model.data_preprocessor(batch, False)
        gt = collect_ground_truth(data['inputs'], data['data_samples'])
        if not len(gt.labels):
            continue
        proposals, stages = model.run_stages(data['inputs'], data['data_samples'])
        images = len(gt.counts)
        reached = [_reached(one.boxes[:images], gt) for one in (proposals, *stages)]
        logits, boxes = (torch.stack([getattr(stage, name)[:images].float() for stage in stages])
                         for name in ('logits', 'boxes'))
        matched = _matched(criterion, logits, boxes, gt)
        rows.append([torch.stack([reached[0], *[torch.full_like(reached[0], torch.nan)] * 3], 1), *(
            torch.cat([one[:, None], values], 1) for one, values in zip(reached[1:], matched, strict=True))])
    model.train(training)
    return [_stage(torch.cat(of_stage)) for of_stage in zip(*rows, strict=True)]


def _stage(values: Tensor) -> Stage:
    reached, *rest = values.nanmean(0).tolist()
    cost, iou, score = (None if one != one else one for one in rest)
    return Stage(reached, cost, iou, score)


def _reached(boxes: Tensor, gt: GroundTruth) -> Tensor:
    """Return 1 for each ground truth (T,) that any box (B, N, 4) of its image covers with IoU 0.5, else 0."""
    return (overlaps(boxes[gt.image], gt.boxes[:, None])[0].amax(1) >= 0.5).float()


def _matched(criterion: SetCriterion | None, logits: Tensor, boxes: Tensor, gt: GroundTruth) -> list[Tensor]:
    """Return for each stage (T, 3): cost, IoU and score of the match of each ground truth. NaN without a match."""
    found = torch.full((len(logits), len(gt.labels), 3), torch.nan, device=logits.device)
    if criterion is None or not (logits.isfinite().all() and boxes.isfinite().all()):
        return list(found)
    matched_gt = criterion.assigner(logits, boxes, gt)
    start = matched_gt.new_tensor([0, *gt.counts[:-1]]).cumsum(0)
    stage, image, proposal = (matched_gt >= 0).nonzero(as_tuple=True)
    row = matched_gt[stage, image, proposal] + start[image]
    pairs = Pairs(logits[stage, image, proposal, gt.labels[row]], boxes[stage, image, proposal], gt.boxes[row],
                  gt.img_whwh[image, 0])
    cost = sum(one(pairs) for one in criterion.assigner.match_costs)
    found[stage, row] = torch.stack([cost, overlaps(pairs.boxes, pairs.gt_boxes)[0], pairs.logits.sigmoid()], 1)
    return list(found)
