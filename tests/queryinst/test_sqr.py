"""Selective query recollection on QueryInst: plain training with 1, separate calls of the plain head with 2."""
from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor

from sparse_rcnn_mm.errors import UserError
from sparse_rcnn_mm.models.queryinst import MaskedRoIHead, QueryInst
from sparse_rcnn_mm.models.queryinst.structures import MaskedStageOutput
from sparse_rcnn_mm.models.sqr import RecollectingMaskedRoIHead
from sparse_rcnn_mm.models.structures import Proposals
from sparse_rcnn_mm.registry import MODELS

from .test_parity import batch_of, build, ground_truth


def model_of(recollect: int | None) -> QueryInst:
    """The model of two images; None for the plain head, with the same weights."""
    model = build('two', torch.float64).train()
    plain: Any = model.roi_head
    if recollect is not None:
        model.roi_head = RecollectingMaskedRoIHead(
            bbox_head=list(plain.bbox_head), roi_extractor=plain.roi_extractor, mask_head=list(plain.mask_head),
            mask_roi_extractor=plain.mask_roi_extractor, recollect=recollect)
    return model


def losses_and_gradients(model: QueryInst) -> list[Tensor]:
    losses = model.loss(*batch_of('two', model, torch.float64))
    sum(losses.values()).backward()
    return [*losses.values(), *(parameter.grad for parameter in model.parameters() if parameter.grad is not None)]


def test_one_stage_recollected_is_plain_training_bit_for_bit() -> None:
    ours, plain = (losses_and_gradients(model_of(recollect)) for recollect in (1, None))
    assert len(ours) == len(plain) > 100
    assert all(torch.equal(a, b) for a, b in zip(ours, plain, strict=True))


def separate_calls(head: MaskedRoIHead, pyramid: Any, start: Proposals) -> list[list[MaskedStageOutput]]:
    """The outputs of each stage, by group: a stage runs on what came out of the two before it."""
    before: list[list[Any]] = [[], [start]]
    for index in range(len(head.bbox_head)):
        before.append([head.run(index, pyramid, one if one is start else one._replace(boxes=one.boxes.detach()))
                       for one in before[-2] + before[-1]])
    return before[2:]


def test_two_stages_recollected_are_separate_plain_calls() -> None:
    """The norms of the mask heads use their running statistics: otherwise a mask depends on who else is asked for."""
    totals = []
    for recollect in (2, None):
        model = model_of(recollect)
        model.roi_head.mask_head.eval()  # type: ignore[union-attr]
        data = batch_of('two', model, torch.float64)
        gt = ground_truth(data)
        feats = model.neck(model.backbone(data[0]))
        start = model.rpn_head(feats, gt.img_whwh)
        if recollect:
            stages = model.roi_head(feats, start)
            assert [len(stage.logits) // 2 for stage in stages] == [1, 2, 3]
            losses = list(model.criterion(stages, gt, start).values())
        else:
            calls = separate_calls(model.roi_head, model.roi_head.roi_extractor(feats), start)  # type: ignore[arg-type]
            losses = [loss for groups in calls for group in groups
                      for loss in model.criterion([group], gt, start).values()]
        total = sum(losses)
        total.backward()
        totals.append((total, {name: one.grad for name, one in model.named_parameters()}))
    torch.testing.assert_close(*totals, rtol=1e-9, atol=1e-9)


def test_prediction_and_checkpoint_are_plain() -> None:
    ours, plain = model_of(2).eval(), model_of(None).eval()
    assert list(ours.state_dict()) == list(plain.state_dict())
    with torch.no_grad():
        a, b = (model.predict(*batch_of('two', model, torch.float64))[0].pred_instances for model in (ours, plain))
    assert torch.equal(a.masks, b.masks) and torch.equal(a.scores, b.scores) and a.masks.any()


def test_the_setting_of_a_config() -> None:
    model = model_of(None)
    config = dict(type='RecollectingMaskedRoIHead', bbox_head=list(copy.deepcopy(model.roi_head.bbox_head)),
                  roi_extractor=dict(type='RoIExtractor', strides=[4, 8, 16, 32]), mask_head=[],
                  mask_roi_extractor=dict(type='RoIExtractor', strides=[4, 8, 16, 32], output_size=14))
    assert MODELS.build(config).recollect == 2
    with pytest.raises(UserError, match='must be at least 1, not 0'):
        MODELS.build({**config, 'recollect': 0})
