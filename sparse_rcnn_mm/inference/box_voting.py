"""Soft voting: merges the detections of several passes over one image into one list.

Source: `merge_result_from_multi_scales` of the official code, which took it from cvpods. As there, it is computed in
float32: a class offset of up to 1e5 pixels rounds the boxes to 1/64 pixel, which affects the official numbers.
"""
from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

# The number of pairs of boxes that are compared at a time.
PAIRS = 2**22


class Candidates(NamedTuple):
    """The n detections of one image."""
    boxes: Tensor  # (n, 4)
    scores: Tensor  # (n,)
    labels: Tensor  # (n,) long


def soft_vote(found: Candidates, iou_thr: float = 0.65, least_score: float = 0.05) -> Candidates:
    """Merge overlapping detections of the same class, best first.

    The best remaining detection forms a group with all detections whose IoU with it is at least `iou_thr`. A group of
    one is kept as it is. A larger group becomes one box: the mean of its boxes weighted by their scores, with the best
    score. Each member is also kept by itself with its score times (1 - IoU), if that reaches `least_score`.

    Boxes are not clipped. Only boxes whose area is zero after rounding are dropped.

    Returns:
        On the CPU, sorted by score.
    """
    boxes, scores, labels = found.boxes.float(), found.scores.float(), found.labels
    if not len(scores):
        return Candidates(boxes.cpu(), scores.cpu(), labels.cpu())
    order = scores.argsort(descending=True, stable=True)
    step = boxes.max() + 1  # separates the classes; boxes that start left of the image may still overlap another class
    apart = (boxes + labels[:, None].float() * step)[order]
    pairs = [part.cpu() for part in _overlapping(apart, iou_thr)]
    rows = torch.cat([apart, scores[order, None], labels[order, None].float()], dim=1).cpu()
    voted = torch.cat([_merged(rows[members], ious, least_score) for members, ious in _groups(len(rows), *pairs)]
                      or [rows[:0]])
    voted = voted[voted[:, 4].argsort(descending=True, stable=True)]
    return Candidates(voted[:, :4] - voted[:, 5:] * step.cpu(), voted[:, 4], voted[:, 5].long())


def _overlapping(boxes: Tensor, iou_thr: float) -> tuple[Tensor, Tensor, Tensor]:
    """Find pairs (first, second), first <= second, whose IoU is at least `iou_thr` or NaN. Also returns the IoUs."""
    x1, y1, x2, y2 = boxes.unbind(1)
    area = (x2 - x1) * (y2 - y1)
    count = max(PAIRS // len(boxes), 1)
    found = []
    for start in range(0, len(boxes), count):
        one, others = slice(start, start + count), slice(start, None)
        width = (torch.minimum(x2[one, None], x2[others]) - torch.maximum(x1[one, None], x1[others])).clamp(min=0)
        height = (torch.minimum(y2[one, None], y2[others]) - torch.maximum(y1[one, None], y1[others])).clamp(min=0)
        shared = width * height
        iou = shared / (area[one, None] + area[others] - shared)
        first, second = (~(iou < iou_thr)).triu().nonzero(as_tuple=True)
        found.append((first + start, second + start, iou[first, second]))
    first, second, ious = map(torch.cat, zip(*found, strict=True))
    return first, second, ious


def _groups(number: int, first: Tensor, second: Tensor, ious: Tensor) -> list[tuple[list[int], Tensor]]:
    """Return the members of each group, best detection first, and their IoUs with the best."""
    bounds = torch.searchsorted(first, torch.arange(number + 1)).tolist()
    near, groups = second.tolist(), []
    free = [True] * number
    for head in range(number):
        if not free[head]:
            continue
        places = [place for place in range(bounds[head], bounds[head + 1]) if free[near[place]]]
        members = [near[place] for place in places]
        for member in members:
            free[member] = False
        if free[head]:  # a box of negative size does not even overlap itself, so it stays alone
            members, overlap, free[head] = [head], ious.new_ones(1), False
        else:
            overlap = ious[places]
        solid = ~overlap.isnan()  # 0 / 0: a box without area
        groups.append(([member for member, one in zip(members, solid.tolist(), strict=True) if one], overlap[solid]))
    return groups


def _merged(rows: Tensor, ious: Tensor, least_score: float) -> Tensor:
    """Merge one group (m, 6: box, score, label), best first."""
    if len(rows) < 2:
        return rows
    weight = rows[:, 4:5]
    mean = (rows[:, :4] * weight).sum(dim=0) / weight.sum()
    single = rows.clone()
    single[:, 4] *= 1 - ious
    return torch.cat([torch.cat([mean, rows[0, 4:]])[None], single[single[:, 4] >= least_score]])
