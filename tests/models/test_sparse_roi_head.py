"""The loop over stages: tied stages, and what gradients may pass from one to the next."""
import copy
import math
from typing import Any

import pytest
import torch
from torch import Tensor

from sparse_rcnn_mm.models import SparseRoIHead
from sparse_rcnn_mm.models.structures import Proposals

from .samples import random_boxes

C = 16
STAGE = dict(type='DIIHead', num_classes=3, in_channels=C, num_heads=2, feedforward_channels=16,
             dynamic_conv=dict(type='DynamicConv', feat_channels=4))


def build(**kwargs: Any) -> SparseRoIHead:
    return SparseRoIHead(bbox_head=STAGE, roi_extractor=dict(type='RoIExtractor'), **kwargs)


def random_inputs() -> tuple[list[Tensor], Proposals]:
    feats = [torch.randn(2, C, math.ceil(80 / s), math.ceil(100 / s)) for s in (4, 8, 16, 32)]
    return feats, Proposals(random_boxes(2, 5).requires_grad_(), torch.randn(2, 5, C).requires_grad_())


def test_stages_have_weights_of_their_own_and_run_in_order() -> None:
    head = build(num_stages=3)
    assert len({id(stage.fc_cls.weight) for stage in head.bbox_head}) == 3
    feats, (boxes, queries) = random_inputs()
    pyramid = head.roi_extractor(feats)
    for stage, output in zip(head.bbox_head, head(feats, Proposals(boxes, queries)), strict=True):
        expected = stage(pyramid, Proposals(boxes, queries))
        boxes, queries = expected.boxes, expected.queries
        for ours, theirs in zip(output, expected, strict=True):
            torch.testing.assert_close(ours, theirs)


def test_tied_stages_are_stored_once_and_equal_running_one_module_again() -> None:
    tied, untied = build(num_stages=1, order=[0] * 6), build(num_stages=6)
    assert len(tied.state_dict()) == 40 and len(untied.state_dict()) == 240
    untied.bbox_head.load_state_dict({f'{stage}.{key}': value for stage in range(6)
                                      for key, value in tied.bbox_head[0].state_dict().items()})
    feats, proposals = random_inputs()
    ours, theirs = tied(feats, proposals), untied(feats, proposals)
    assert len(ours) == 6
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other)
    # The tied parameter's gradient is the sum over the places where it stands.
    sum(output.logits.square().sum() for output in ours).backward()
    sum(output.logits.square().sum() for output in theirs).backward()
    torch.testing.assert_close(tied.bbox_head[0].fc_cls.weight.grad,
                               sum(stage.fc_cls.weight.grad for stage in untied.bbox_head), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(('order', 'classes'), [(None, 5), ([2, 1, 0], 3), ([0, 2, 1], 4)])
def test_the_classes_are_those_of_the_stage_that_runs_last(order: list[int] | None, classes: int) -> None:
    head = SparseRoIHead(bbox_head=[{**STAGE, 'num_classes': number} for number in (3, 4, 5)], order=order,
                         roi_extractor=dict(type='RoIExtractor'))
    assert head.num_classes == classes


def test_any_order_of_stages() -> None:
    head = build(num_stages=2, order=[0, 1, 1])
    feats, proposals = random_inputs()
    written_out = copy.deepcopy(head)
    written_out.bbox_head.append(written_out.bbox_head[1])
    written_out.order = [0, 1, 2]
    for one, other in zip(head(feats, proposals), written_out(feats, proposals), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize('stage', [1, 2])
def test_gradient_flows_between_stages_through_queries_and_not_through_boxes(stage: int) -> None:
    head = build(num_stages=3)
    feats, proposals = random_inputs()
    output = head([feat.requires_grad_() for feat in feats], proposals)[stage]
    output.boxes.square().sum().backward()
    assert proposals.boxes.grad is None
    assert (proposals.queries.grad.abs().sum(-1) > 0).all()
    for earlier in head.bbox_head[:stage]:
        assert earlier.fc_reg.weight.grad is None and earlier.reg_fcs[0].weight.grad is None
        assert earlier.fc_cls.weight.grad is None
        assert earlier.instance_interactive_conv.dynamic_layer.weight.grad.abs().sum() > 0
    assert head.bbox_head[stage].fc_reg.weight.grad.abs().sum() > 0
    assert all(feat.grad is not None for feat in feats)


def test_the_first_stage_trains_the_proposal_boxes() -> None:
    feats, proposals = random_inputs()
    build(num_stages=2)(feats, proposals)[0].boxes.square().sum().backward()
    assert (proposals.boxes.grad.abs().sum(-1) > 0).all()


def test_boxes_of_earlier_stages_stay_differentiable_for_the_loss() -> None:
    feats, proposals = random_inputs()
    head = build(num_stages=2)
    first, _ = head(feats, proposals)
    first.boxes.sum().backward()
    assert head.bbox_head[0].fc_reg.weight.grad.abs().sum() > 0


def test_checkpointed_stages_keep_less_and_give_the_same_gradients() -> None:
    plain = build(num_stages=3).double()
    checkpointed = copy.deepcopy(plain)
    checkpointed.with_cp = True
    kept, gradients = [], []
    for head in (plain, checkpointed):
        torch.manual_seed(0)
        feats, (boxes, queries) = random_inputs()
        leaves = [x.detach().double().requires_grad_() for x in (*feats, boxes, queries)]
        sizes: list[int] = []

        def keep(x: Tensor, sizes: list[int] = sizes) -> Tensor:
            sizes.append(x.numel())
            return x

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
            outputs = head(leaves[:4], Proposals(*leaves[4:]))
        sum(output.logits.square().sum() + output.boxes.sum() for output in outputs).backward()
        kept.append(sum(sizes))
        gradients.append([x.grad for x in leaves] + [p.grad for p in head.parameters()])
    assert kept[1] < 0.1 * kept[0]
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)
