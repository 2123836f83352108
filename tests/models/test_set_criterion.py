"""The training loss: a loop by hand, who gets gradients, what it is divided by, what may change without changing it."""
import copy
import math
from typing import Any

import pytest
import torch
from torch import Tensor

from sparse_rcnn_mm.errors import UserError
from sparse_rcnn_mm.models import HungarianAssigner, SetCriterion, set_criterion
from sparse_rcnn_mm.models.box_ops import overlaps
from sparse_rcnn_mm.models.match_costs import Pairs
from sparse_rcnn_mm.models.structures import GroundTruth, StageOutput
from sparse_rcnn_mm.registry import MODELS

from .samples import CRITERION, precisions_in, random_gt, random_stage

Losses = dict[str, Tensor]


def build(**changes: Any) -> SetCriterion:
    return MODELS.build(dict(copy.deepcopy(CRITERION), **changes))


def by_loop(matched_gt: Tensor, stage: StageOutput, gt: GroundTruth, count: float) -> dict[str, float]:
    """The three losses of one stage with `matched_gt` (B, N), proposal by proposal."""
    sums = dict(loss_cls=0., loss_bbox=0., loss_iou=0.)
    for image, matched in enumerate(matched_gt):
        labels, boxes = gt.labels[gt.image == image], gt.boxes[gt.image == image]
        for n, index in enumerate(matched.tolist()):
            for k, logit in enumerate(stage.logits[image, n].tolist()):
                p = 1 / (1 + math.exp(-logit))
                is_class = index >= 0 and labels[index] == k
                sums['loss_cls'] += -0.25 * (1 - p)**2 * math.log(p) if is_class else -0.75 * p**2 * math.log(1 - p)
            if index >= 0:
                box = stage.boxes[image, n]
                sums['loss_bbox'] += ((box - boxes[index]) / gt.img_whwh[image, 0]).abs().sum().item()
                sums['loss_iou'] += 1 - overlaps(box, boxes[index])[1].item()
    weights = dict(loss_cls=2., loss_bbox=5., loss_iou=2.)
    return {name: weights[name] * value / count for name, value in sums.items()}


def values(losses: Losses) -> dict[str, float]:
    return {name: loss.item() for name, loss in losses.items()}


@pytest.mark.parametrize('counts', [(2, 3, 0), (0, 0, 1), (4, 9, 2), (0, 0, 0)])
@pytest.mark.parametrize('normalizer', ['num_gts', 'num_matched'])
def test_equals_a_loop(counts: tuple[int, ...], normalizer: str) -> None:
    gt, stages = random_gt(counts), [random_stage(3, 6) for _ in range(2)]
    criterion = build(normalizer=normalizer)
    matched_gt = criterion.assigner(torch.stack([s.logits for s in stages]), torch.stack([s.boxes for s in stages]), gt)
    losses = values(criterion(stages, gt, None))
    for k, stage in enumerate(stages):
        matches = sum(min(count, 6) for count in counts)
        count = max(matches if normalizer == 'num_matched' else sum(counts), 1)
        for name, expected in by_loop(matched_gt[k], stage, gt, count).items():
            assert losses[f's{k}.{name}'] == pytest.approx(expected, rel=1e-5), name


def test_a_hand_worked_image() -> None:
    """One ground truth, two proposals: the first is a quarter of the image off to the right, both undecided."""
    gt = GroundTruth(torch.tensor([[10., 10., 30., 50.]]), torch.tensor([1]), torch.tensor([0]), [1],
                     torch.tensor([[[80., 100., 80., 100.]]]))
    stage = StageOutput(torch.zeros(1, 2, 2), torch.tensor([[[30., 10., 50., 50.], [60., 90., 70., 95.]]]),
                        torch.zeros(1, 2, 1))
    losses = values(build()([stage], gt, None))
    assert losses == {
        's0.loss_cls': pytest.approx(2 * (0.25 + 3 * 0.75) * 0.25 * math.log(2)),
        's0.loss_bbox': pytest.approx(5 * (20 / 80 + 20 / 80)),
        's0.loss_iou': pytest.approx(2 * 1.)}  # they touch: IoU 0, and the hull is the union


def test_names_by_stage_and_stages_by_themselves() -> None:
    gt, stages = random_gt([2, 3]), [random_stage(2, 6) for _ in range(3)]
    losses = build()(stages, gt, None)
    assert list(losses) == [f's{k}.{name}' for k in range(3) for name in ('loss_cls', 'loss_bbox', 'loss_iou')]
    for k, stage in enumerate(stages):
        for name, value in build()([stage], gt, None).items():
            torch.testing.assert_close(losses[name.replace('s0', f's{k}')], value)


def test_only_matched_proposals_get_box_gradients_and_all_get_class_gradients() -> None:
    gt, stage = random_gt([2, 0, 3]), random_stage(3, 6)
    criterion = build()
    matched = criterion.assigner(stage.logits[None], stage.boxes[None], gt)[0] >= 0
    sum(criterion([stage], gt, None).values()).backward()
    assert torch.equal((stage.boxes.grad != 0).any(-1), matched)
    assert (stage.logits.grad != 0).all()


def test_boxes_of_an_image_without_objects_may_be_anything() -> None:
    gt, stage = random_gt([2, 0]), random_stage(2, 6)
    with torch.no_grad():
        stage.boxes[1] = 1e30
    losses = build()([stage], gt, None)
    sum(losses.values()).backward()
    assert all(loss.isfinite() for loss in losses.values())
    assert (stage.boxes.grad[1] == 0).all() and stage.boxes.grad.isfinite().all()


def test_order_of_ground_truths_does_not_matter() -> None:
    gt, stages = random_gt([4, 3]), [random_stage(2, 6) for _ in range(2)]
    order = torch.tensor([2, 0, 3, 1, 6, 4, 5])
    permuted = gt._replace(boxes=gt.boxes[order], labels=gt.labels[order])
    assert values(build()(stages, permuted, None)) == pytest.approx(values(build()(stages, gt, None)))


def test_order_of_proposals_does_not_matter() -> None:
    gt, stage = random_gt([4, 3]), random_stage(2, 6)
    order = torch.randperm(6)
    permuted = StageOutput(*(value[:, order] for value in stage))
    assert values(build()([permuted], gt, None)) == pytest.approx(values(build()([stage], gt, None)))


@pytest.mark.parametrize('normalizer', ['num_gts', 'num_matched'])
def test_the_same_images_twice_give_the_same_losses(normalizer: str) -> None:
    gt, stage = random_gt([2, 0, 9]), random_stage(3, 6)
    twice = GroundTruth(gt.boxes.repeat(2, 1), gt.labels.repeat(2), torch.cat([gt.image, gt.image + 3]), gt.counts * 2,
                        gt.img_whwh.repeat(2, 1, 1))
    doubled = StageOutput(*(value.repeat(2, 1, 1) for value in stage))
    criterion = build(normalizer=normalizer)
    assert values(criterion([doubled], twice, None)) == pytest.approx(values(criterion([stage], gt, None)))


def test_without_any_object_the_class_loss_is_not_divided() -> None:
    gt, stage = random_gt([0, 0]), random_stage(2, 6)
    losses = build()([stage], gt, None)
    p = stage.logits.detach().sigmoid()
    assert losses['s0.loss_cls'].item() == pytest.approx(2 * (-0.75 * p**2 * (1 - p).log()).sum().item(), rel=1e-5)
    assert losses['s0.loss_bbox'] == 0 and losses['s0.loss_iou'] == 0
    sum(losses.values()).backward()
    assert stage.logits.grad.isfinite().all() and (stage.boxes.grad == 0).all()


def test_more_objects_than_proposals_by_either_normalizer() -> None:
    """12 objects and 2 x 3 proposals: all are matched, and only the divisor differs."""
    gt, stage = random_gt([8, 4]), random_stage(2, 3)
    by_gts, by_matched = (values(build(normalizer=name)([stage], gt, None)) for name in ('num_gts', 'num_matched'))
    assert {name: 12 * value for name, value in by_gts.items()} == pytest.approx(
        {name: 6 * value for name, value in by_matched.items()})


def test_the_divisor_is_averaged_over_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    gt, stage = random_gt([2, 2]), random_stage(2, 6)
    alone = values(build()([stage], gt, None))

    def beside_a_process_with_six(x: Tensor, op: str) -> None:
        assert op == 'mean'
        x.add_(6).div_(2)

    monkeypatch.setattr(set_criterion, 'all_reduce', beside_a_process_with_six)
    assert values(build()([stage], gt, None)) == pytest.approx({name: value * 4 / 5 for name, value in alone.items()})


def test_float32_under_autocast() -> None:
    gt, stage = random_gt([2, 3]), random_stage(2, 6)
    half = stage._replace(logits=stage.logits.detach().bfloat16().requires_grad_())
    with torch.autocast('cpu', dtype=torch.bfloat16):
        losses = build()([half], gt, None)
    assert all(loss.dtype == torch.float32 for loss in losses.values())
    assert values(losses) == values(build()([half._replace(logits=half.logits.float())], gt, None))
    sum(losses.values()).backward()
    assert half.logits.grad.dtype == torch.bfloat16 and half.logits.grad.isfinite().all()


def test_autocast_is_off_in_costs_and_losses() -> None:
    """The losses here have no matrix products, but others may."""
    criterion, found = build(), []

    def cost(pairs: Pairs) -> Tensor:
        found.append((torch.ones(1, 1) @ torch.ones(1, 1)).dtype)
        return pairs.logits

    criterion.assigner = HungarianAssigner([cost])
    losses = precisions_in(criterion.loss_bbox)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        criterion([random_stage(2, 6)], random_gt([2, 3]), None)
    assert found == losses == [torch.float32]


def test_double_precision_stays() -> None:
    stage = StageOutput(*(value.double() for value in random_stage(2, 6)))
    assert {loss.dtype for loss in build()([stage], random_gt([2, 3]), None).values()} == {torch.float64}


def test_it_has_no_parameters() -> None:
    assert list(build().parameters()) == [] and build().state_dict() == {}


def test_an_unknown_normalizer_is_named() -> None:
    with pytest.raises(UserError, match=r"SetCriterion must be one of \['num_gts', 'num_matched'\], not 'images'"):
        build(normalizer='images')
