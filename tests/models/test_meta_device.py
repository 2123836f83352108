"""On the `meta` device, without a GPU: no tensor is made on another device, and nothing waits for the host too early.

Tensors there have shapes and no numbers. An operation on tensors of two devices is an error, and so is reading a
number, which on a GPU would wait until all of its work is done.
"""
from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.config import ConfigDict
from torch import nn

from sparse_rcnn_mm.models.structures import GroundTruth
from sparse_rcnn_mm.registry import MODELS

from .samples import tiny_model

FEATURES = dict(_delete_=True, type='ProposalsFromFeatures', num_proposals=8, channels=16, stride=8)


def plain(model: ConfigDict) -> None:
    pass


def checkpointed(model: ConfigDict) -> None:
    model.roi_head.with_cp = True


def proposals(model: ConfigDict) -> None:
    model.rpn_head = {key: value for key, value in FEATURES.items() if key != '_delete_'}


def stage(model: ConfigDict) -> None:
    model.roi_head.bbox_head = dict(type='RememberingStage', num_classes=3, channels=16)


def groups(model: ConfigDict) -> None:
    model.roi_head.type = 'TwoGroupsRoIHead'


def criterion(model: ConfigDict) -> None:
    proposals(model)
    model.criterion = dict(type='Criteria', parts=dict(dense=dict(type='ObjectnessCriterion'), matched=model.criterion))


def assigner(model: ConfigDict) -> None:
    model.criterion.assigner.type = 'TwoToOneAssigner'
    model.criterion.normalizer = 'num_matched'


SLOTS = [plain, checkpointed, proposals, stage, groups, criterion, assigner]


@pytest.fixture(params=SLOTS, ids=lambda slot: slot.__name__)
def model(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> nn.Module:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    import_module('slots_from_outside')
    config = tiny_model()
    request.param(config)
    with torch.device('meta'):
        return MODELS.build(config)


def on_meta(*shape: int, **options: Any) -> torch.Tensor:
    return torch.empty(*shape, device='meta', **options)


def inputs() -> tuple[torch.Tensor, torch.Tensor]:
    return on_meta(3, 3, 64, 96), on_meta(3, 1, 4)


def test_prediction(model: nn.Module) -> None:
    with torch.no_grad():
        found = model.eval().detect(*inputs(), on_meta(3, 1, 4))
    assert [tuple(tensor.shape) for tensor in found] == [(3, 8), (3, 8), (3, 8, 4), (3, 8)]
    assert all(tensor.is_meta for tensor in found)


@pytest.fixture(autouse=True)
def no_autocast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which `meta` does not have."""
    monkeypatch.setattr(torch, 'autocast', lambda *_, **__: nullcontext())


def test_training_up_to_the_matcher(model: nn.Module) -> None:
    """The matcher's one copy to the host is the first thing that cannot be done, and the last that has to be."""
    images, whwh = inputs()
    start, stages = model.train().refine(images, whwh)
    gt = GroundTruth(on_meta(5, 4), on_meta(5, dtype=torch.long), on_meta(5, dtype=torch.long), [2, 0, 3], whwh)
    with pytest.raises(NotImplementedError, match='Cannot copy out of meta tensor'):
        model.criterion(stages, gt, start)


def test_losses_after_the_matcher() -> None:
    with torch.device('meta'):
        criterion = MODELS.build(tiny_model()).criterion
    gt = GroundTruth(on_meta(5, 4), on_meta(5, dtype=torch.long), on_meta(5, dtype=torch.long), [2, 0, 3],
                     on_meta(3, 1, 4))
    losses = criterion.losses(on_meta(2, 3, 8, 3), on_meta(2, 3, 8, 4), on_meta(2, 3, 8, dtype=torch.long), gt)
    assert {name: tuple(loss.shape) for name, loss in losses.items()} == {
        'loss_cls': (2,), 'loss_bbox': (2,), 'loss_iou': (2,)}
    assert all(loss.is_meta for loss in losses.values())


@pytest.mark.parametrize('wrong', [
    lambda x: x + torch.zeros(3), lambda x: x[torch.nonzero(x)], lambda x: x * x.sum().item()])
def test_the_device_finds_what_it_should(wrong: Callable[[torch.Tensor], torch.Tensor]) -> None:
    with pytest.raises((RuntimeError, NotImplementedError)):
        wrong(on_meta(3))
