"""One measurement: what is measured is the model that the fast forms make, and the numbers belong to it."""
from __future__ import annotations

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope

from sparse_rcnn_mm.benchmark import machine
from sparse_rcnn_mm.benchmark.measure import TrainStep, Workload, measure, training_differences
from sparse_rcnn_mm.benchmark.parts import flops_by_part
from sparse_rcnn_mm.benchmark.workload import add_masks, build_model, images, samples
from sparse_rcnn_mm.registry import MODELS

from ..models.samples import tiny_model


@pytest.fixture
def config(monkeypatch: pytest.MonkeyPatch) -> Config:
    monkeypatch.setattr(machine, 'peak_gflops', lambda *_: 100.)
    return Config(dict(model=tiny_model()))


@pytest.mark.parametrize('train', [False, True])
def test_the_numbers_belong_to_the_model(config: Config, train: bool) -> None:
    result = measure(config, Workload(size=(64, 96), batch=2, train=train, num_gts=3, repeats=3))
    with DefaultScope.overwrite_default_scope('sparse_rcnn_mm'):
        plain = MODELS.build(config.model)
    assert result.parameters == sum(parameter.numel() for parameter in plain.parameters())
    assert 0 < result.seconds.low <= result.seconds.median <= result.seconds.high
    assert result.images_per_second == 2 / result.seconds.median
    passes = 3 if train else 1
    assert result.gflops == pytest.approx(passes * sum(result.flops.values()) / result.seconds.median / 1e9)
    assert result.peak_gflops == 100
    losses = {'matching and losses'} if train else set()
    parts = {'backbone', 'neck', 'proposals', 'flattening', 'stage 1', 'stage 2', 'rest'}
    assert set(result.part_seconds) == parts | losses
    model = build_model(config)
    batch, data = images(2, 64, 96), samples(2, 64, 96, 3, num_classes=3)
    direct = flops_by_part(model, lambda: model.loss(batch, data))
    assert result.flops['stage 2'] == direct['stage 2']  # the last; prediction saves work in those before
    assert result.flops['backbone'] == direct['backbone']


def test_given_weights_are_measured(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights of random ones, and of a checkpoint: the model that runs has them."""
    state = {name: torch.full_like(value, 0.01) if value.is_floating_point() else value
             for name, value in build_model(config).state_dict().items()}
    seen = []

    class Recorded(TrainStep):
        def __init__(self, model: torch.nn.Module, *args: object, **kwargs: object) -> None:
            seen.append({name: value.clone() for name, value in model.state_dict().items()})
            super().__init__(model, *args, **kwargs)

    monkeypatch.setattr('sparse_rcnn_mm.benchmark.measure.TrainStep', Recorded)
    measure(config, Workload(size=(64, 64), train=True, repeats=1), state)
    assert all(torch.equal(seen[0][name], value) for name, value in state.items() if value.is_floating_point())


def test_a_step_changes_nothing_and_differs_from_itself_by_nothing(config: Config) -> None:
    """The learning rate is 0, so every step is of the same weights, and two models of one state agree."""
    torch.manual_seed(0)
    batch, data = images(1, 64, 64), samples(1, 64, 64, 3, num_classes=3)
    steps = [TrainStep(build_model(config), batch, data, Workload()) for _ in range(2)]
    before = {name: value.clone() for name, value in steps[0].model.named_parameters()}
    for step in steps:
        step()
    assert all(torch.equal(value, before[name]) for name, value in steps[0].model.named_parameters())
    same = training_differences(*(step.results() for step in steps))
    assert set(same) == {'losses, relative', 'gradients / peak', 'gradients, relative length'}
    assert max(same.values()) < 1e-5
    with torch.no_grad():
        steps[1].model.roi_head.bbox_head[0].fc_cls.bias.add_(0.5)
    steps[1]()
    assert training_differences(*(step.results() for step in steps))['losses, relative'] > 0.01


def test_masks_fill_their_boxes() -> None:
    """Ellipses: they touch all sides of their boxes, and have pi / 4 of their areas."""
    torch.manual_seed(0)
    batch = samples(2, 320, 480, 5)
    add_masks(batch)
    for sample in batch:
        boxes, masks = sample.gt_instances.bboxes, sample.gt_instances.masks
        assert masks.masks.shape == (5, 320, 480)
        assert (masks.get_bboxes('hbox').tensor - boxes).abs().max() < 3
        corner = [masks.masks.any(axis).argmax(1) for axis in (1, 2)]
        assert (torch.from_numpy(np.stack(corner, 1)) - boxes[:, :2]).abs().max() < 4  # an ellipse is thin at its ends
        areas = (boxes[:, 2:] - boxes[:, :2]).prod(1)
        assert torch.allclose(torch.from_numpy(masks.areas).float() / areas, torch.tensor(torch.pi / 4), atol=0.03)
