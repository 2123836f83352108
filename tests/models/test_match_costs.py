"""Costs: hand-worked numbers, and mmdet's own."""
import math

import pytest
import torch
from mmdet.models.task_modules.assigners import match_cost as mmdet_costs
from mmengine.structures import InstanceData

from sparse_rcnn_mm.errors import UserError
from sparse_rcnn_mm.models import BBoxL1Cost, FocalLossCost, IoUCost
from sparse_rcnn_mm.models.match_costs import Pairs

from .samples import random_boxes


def one_pair(logit: float = 0., box: tuple = (0., 0., 2., 2.), gt_box: tuple = (1., 1., 3., 3.),
             whwh: tuple = (10., 20., 10., 20.)) -> Pairs:
    boxes, gt_boxes, img_whwh = (torch.tensor([[[numbers]]]) for numbers in (box, gt_box, whwh))
    return Pairs(torch.tensor([[[logit]]]), boxes, gt_boxes, img_whwh)


@pytest.mark.parametrize(('p', 'alpha', 'gamma'), [(0.5, 0.25, 2.), (0.01, 0.25, 2.), (0.9, 0.25, 2.), (0.3, 0.6, 1.)])
def test_focal_cost_by_hand(p: float, alpha: float, gamma: float) -> None:
    cost = FocalLossCost(weight=3., alpha=alpha, gamma=gamma)(one_pair(math.log(p / (1 - p))))
    positive, negative = -alpha * (1 - p)**gamma * math.log(p), -(1 - alpha) * p**gamma * math.log(1 - p)
    assert cost.item() == pytest.approx(3 * (positive - negative), rel=1e-5)


def test_focal_cost_of_even_odds() -> None:
    assert FocalLossCost()(one_pair(0.)).item() == pytest.approx((0.25 - 0.75) * 0.25 * math.log(2))


@pytest.mark.parametrize('logit', [-200., 200.])
def test_focal_cost_of_certainty_is_finite(logit: float) -> None:
    """1e-8 inside the logarithm bounds it, where float32 can still tell."""
    cost = FocalLossCost()(one_pair(logit)).item()
    assert math.isfinite(cost)
    assert logit > 0 or cost == pytest.approx(-0.25 * math.log(1e-8))


def test_l1_cost_by_hand() -> None:
    assert BBoxL1Cost(weight=5.)(one_pair()).item() == pytest.approx(5 * (0.1 + 0.05 + 0.1 + 0.05))


def test_iou_costs_by_hand() -> None:
    assert IoUCost(weight=2.)(one_pair()).item() == pytest.approx(-2 * (1 / 7 - 2 / 9))
    assert IoUCost(weight=2., iou_mode='iou')(one_pair()).item() == pytest.approx(-2 / 7)


def test_unknown_overlap_is_named() -> None:
    with pytest.raises(UserError, match="iou_mode of IoUCost must be 'iou' or 'giou', not 'diou'"):
        IoUCost(iou_mode='diou')


@pytest.mark.parametrize(('name', 'arguments'), [
    ('FocalLossCost', dict(weight=2.)), ('FocalLossCost', dict(alpha=0.4, gamma=1.5, weight=1.)),
    ('BBoxL1Cost', dict(weight=5.)), ('IoUCost', dict(iou_mode='giou', weight=2.)),
    ('IoUCost', dict(iou_mode='iou', weight=1.))])
def test_equal_to_mmdet(name: str, arguments: dict) -> None:
    ours = {cost.__name__: cost for cost in (FocalLossCost, BBoxL1Cost, IoUCost)}[name](**arguments)
    theirs = getattr(mmdet_costs, name)(**arguments)
    logits, boxes, gt_boxes, labels = torch.randn(6, 4), random_boxes(6), random_boxes(3), torch.tensor([2, 0, 2])
    pairs = Pairs(logits[:, labels].T[:, None], boxes[None, None], gt_boxes[:, None, None],
                  torch.tensor([100., 80., 100., 80.]))
    expected = theirs(InstanceData(scores=logits, bboxes=boxes), InstanceData(labels=labels, bboxes=gt_boxes),
                      dict(img_shape=(80, 100)))
    torch.testing.assert_close(ours(pairs)[:, 0].T, expected)
