"""The assignment: optimal by trying everything, images by themselves, one copy to the host."""
import itertools
import math
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from sparse_rcnn_mm.errors import NotFinite, UserError
from sparse_rcnn_mm.models import BBoxL1Cost, FocalLossCost, HungarianAssigner, IoUCost
from sparse_rcnn_mm.models.match_costs import Pairs
from sparse_rcnn_mm.models.structures import GroundTruth

from .samples import CRITERION, image_of, random_boxes, random_gt


def build() -> HungarianAssigner:
    return HungarianAssigner(CRITERION['assigner']['match_costs'])


def predictions(stages: int, batch: int, proposals: int, num_classes: int = 5) -> tuple[Tensor, Tensor]:
    return torch.randn(stages, batch, proposals, num_classes), random_boxes(stages, batch, proposals)


def cost_matrix(logits: Tensor, boxes: Tensor, gt: GroundTruth) -> Tensor:
    """(G, N) of one image, pair by pair: logits (N, K) and boxes (N, 4)."""
    rows = []
    for label, gt_box in zip(gt.labels, gt.boxes, strict=True):
        pairs = Pairs(logits[:, label], boxes, gt_box, gt.img_whwh[0])
        rows.append(FocalLossCost(2.)(pairs) + BBoxL1Cost(5.)(pairs) + IoUCost(2.)(pairs))
    return torch.stack(rows)


def least_cost(cost: Tensor) -> float:
    """By trying every way to give the smaller side partners of its own."""
    if cost.shape[0] > cost.shape[1]:
        cost = cost.T
    rows, columns = range(cost.shape[0]), range(cost.shape[1])
    return min(cost[rows, list(chosen)].sum().item() for chosen in itertools.permutations(columns, len(rows)))


@pytest.mark.parametrize(('counts', 'proposals'), [((2, 3), 5), ((1, 4), 4), ((0, 3), 5), ((6, 2), 4), ((5, 0), 1)])
def test_optimal_among_all_assignments(counts: tuple[int, int], proposals: int) -> None:
    gt = random_gt(counts)
    logits, boxes = predictions(3, 2, proposals)
    matched_gt = build()(logits, boxes, gt)
    for stage, image in itertools.product(range(3), range(2)):
        matched = matched_gt[stage, image]
        chosen = matched[matched >= 0]
        assert len(chosen) == len(set(chosen.tolist())) == min(counts[image], proposals)
        if counts[image]:
            cost = cost_matrix(logits[stage, image], boxes[stage, image], image_of(gt, image))
            assert cost[chosen, torch.where(matched >= 0)[0]].sum().item() == pytest.approx(least_cost(cost), rel=1e-5)


def test_a_perfect_prediction_is_matched_to_its_ground_truth() -> None:
    gt = random_gt([4, 3])
    logits, boxes = predictions(1, 2, 6)
    order = [torch.tensor([5, 0, 3, 1]), torch.tensor([2, 4, 0])]
    for image in range(2):
        truth = image_of(gt, image)
        boxes[0, image, order[image]] = truth.boxes
        logits[0, image] = -8.
        logits[0, image, order[image], truth.labels] = 8.
    matched_gt = build()(logits, boxes, gt)[0]
    assert matched_gt.tolist() == [[1, 3, -1, 2, -1, 0], [2, -1, 0, -1, 1, -1]]


def test_images_and_stages_are_matched_by_themselves() -> None:
    gt, (logits, boxes) = random_gt([3, 0, 7, 1]), predictions(2, 4, 6)
    together = build()(logits, boxes, gt)
    for stage, image in itertools.product(range(2), range(4)):
        alone = build()(logits[stage:stage + 1, image:image + 1], boxes[stage:stage + 1, image:image + 1],
                        image_of(gt, image))
        assert together[stage, image].tolist() == alone[0, 0].tolist()


def test_each_image_is_matched_by_its_own_size() -> None:
    """The ground truth of class 0 is near the first proposal, which is of another class. The second one is of class 0.

    In the small image the distance counts more, in the large one the class.
    """
    sizes = torch.tensor([[[100., 80.] * 2], [[10000., 8000.] * 2]])
    gt = GroundTruth(torch.tensor([[10., 10., 20., 20.]]).repeat(2, 1), torch.zeros(2, dtype=torch.long),
                     torch.arange(2), [1, 1], sizes)
    boxes = torch.tensor([[11., 10., 21., 20.], [70., 60., 80., 70.]]).expand(1, 2, 2, 4)
    logits = torch.tensor([[-1., 1.], [0.5, -1.]]).expand(1, 2, 2, 2)
    for order in ([0, 1], [1, 0]):
        turned = gt._replace(img_whwh=sizes[order])
        assigner = HungarianAssigner([dict(type='FocalLossCost', weight=2.), dict(type='BBoxL1Cost', weight=5.)])
        assert assigner(logits, boxes, turned)[0, :].tolist() == [[[0, -1], [-1, 0]][one] for one in order]


def test_no_ground_truth_at_all() -> None:
    matched_gt = build()(*predictions(2, 3, 4), random_gt([0, 0, 0]))
    assert matched_gt.dtype == torch.long and (matched_gt == -1).all() and matched_gt.shape == (2, 3, 4)


def test_permuting_proposals_permutes_the_matches() -> None:
    gt, (logits, boxes) = random_gt([3, 2]), predictions(2, 2, 7)
    order = torch.randperm(7)
    permuted = build()(logits[:, :, order], boxes[:, :, order], gt)
    assert torch.equal(permuted, build()(logits, boxes, gt)[:, :, order])


class HostReads(TorchDispatchMode):
    """Counts the operators that make the host wait for a value: `item()`, `bool(tensor)`, masks as indices."""

    def __init__(self) -> None:
        super().__init__()
        self.count: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.overloadpacket.__name__ in ('_local_scalar_dense', 'nonzero', 'masked_select', '_unique2'):
            self.count[func.overloadpacket.__name__] += 1
        return func(*args, **(kwargs or {}))


def test_all_costs_of_all_stages_and_images_are_copied_to_the_host_once(monkeypatch: pytest.MonkeyPatch) -> None:
    copies: Counter[str] = Counter()

    def counted(name: str) -> Callable:
        original = getattr(Tensor, name)

        def method(*args: Any) -> Any:
            copies[name] += 1
            return original(*args)

        return method

    for name in ('cpu', 'numpy', 'tolist', '__array__'):
        monkeypatch.setattr(Tensor, name, counted(name))
    gt, (logits, boxes) = random_gt([3, 0, 7, 1]), predictions(6, 4, 8)
    with HostReads() as reads:
        build()(logits, boxes, gt)
    assert copies == {'cpu': 1, 'numpy': 1}
    assert not reads.count


@pytest.mark.parametrize(('what', 'value'), [
    ('logits', math.nan), ('boxes', math.nan), ('boxes', math.inf), ('boxes', -math.inf)])
def test_predictions_that_are_not_finite_stop_training(what: str, value: float) -> None:
    gt, (logits, boxes) = random_gt([0, 2]), predictions(2, 2, 5)
    (logits if what == 'logits' else boxes)[1, 1, 3] = value
    with pytest.raises(NotFinite, match=r'predictions are not finite \(from stage 2 on, first in image 2 of the batch'):
        build()(logits, boxes, gt)


@pytest.mark.parametrize('value', [math.nan, math.inf, 1e20])
def test_a_ground_truth_that_is_not_finite_is_no_fault_of_the_predictions(value: float) -> None:
    gt = random_gt([2, 1])
    gt.boxes[1, 2] = value
    gt.boxes[1, 3] = value
    with pytest.raises(NotFinite, match='^the costs of ground-truth boxes are not finite$') as caught:
        build()(*predictions(2, 2, 5), gt)
    assert not caught.value.predictions


def test_arguments_are_those_of_mmdet() -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument 'match_cost'"):
        HungarianAssigner(match_cost=[])


@pytest.mark.parametrize('counts', [[0, 0], [2, 0]])
def test_one_bad_number_in_an_image_without_objects_stops_too(counts: list[int]) -> None:
    """Its class loss would spoil the weights just the same."""
    gt, (logits, boxes) = random_gt(counts), predictions(1, 2, 5)
    logits[0, 1, 0, 0] = float('inf')
    with pytest.raises(UserError, match='predictions are not finite'):
        build()(logits, boxes, gt)
