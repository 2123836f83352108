"""The fast form gives the model's own numbers."""
from __future__ import annotations

import copy

import pytest
import torch
from mmengine.config import Config, ConfigDict
from mmengine.registry import DefaultScope
from torch import nn

from sparse_rcnn_mm.acceleration.prediction import fast_form, fast_prediction, fold_batch_norms
from sparse_rcnn_mm.errors import UserError
from sparse_rcnn_mm.models import DIIHead
from sparse_rcnn_mm.registry import MODELS

from ..models.samples import ROOT, rectangles, tiny_model


def trained(config: ConfigDict) -> nn.Module:
    """A model whose every number differs from where it starts, in evaluation mode."""
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('sparse_rcnn_mm'):
        model = MODELS.build(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.02)
        if hasattr(model.rpn_head, 'init_proposal_bboxes'):
            model.rpn_head.init_proposal_bboxes.weight[:, :2].uniform_(0.2, 0.8)
            model.rpn_head.init_proposal_bboxes.weight[:, 2:].uniform_(0.1, 0.5)
        for norm in (m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)):
            norm.running_mean.normal_(std=0.2)
            norm.running_var.uniform_(0.5, 2.)
    return model.eval()


def digits():
    config = Config.fromfile(ROOT / 'configs' / 'sparse_rcnn_r18_digits.py')
    return config.model


def tied():
    config = tiny_model()
    config.roi_head.update(num_stages=1, order=[0, 0, 0])
    return config


def one_class():
    config = tiny_model()
    config.roi_head.bbox_head.num_classes = 1
    return config


def one_stage():
    config = tiny_model()
    config.roi_head.num_stages = 1
    return config


def revisited():
    """The first stage runs again, and the last stage's twin in the middle."""
    config = tiny_model()
    config.roi_head.update(num_stages=3, order=[0, 1, 2, 0, 2])
    return config


CONFIGS = {'tiny': tiny_model, 'digits': digits, 'tied': tied, 'one class': one_class, 'one stage': one_stage,
           'revisited': revisited}


@pytest.mark.parametrize('name', CONFIGS)
def test_equals_the_model(name) -> None:
    model = trained(CONFIGS[name]())
    images = torch.randn(2, 3, 96, 128)
    logits, boxes = model(images)[-1]
    fast_logits, fast_boxes = fast_form(model)(images)[-1]
    torch.testing.assert_close(fast_logits, logits, rtol=0, atol=1e-3)
    torch.testing.assert_close(fast_boxes, boxes, rtol=0, atol=1e-2)
    # Random weights enlarge float32's rounding; in float64 next to nothing is left.
    model, images = model.double(), images.double()
    for ours, wanted in zip(fast_form(model)(images)[-1], model(images)[-1], strict=True):
        torch.testing.assert_close(ours, wanted, rtol=1e-10, atol=1e-10)


def test_predictions_are_the_models() -> None:
    model = trained(tiny_model())
    data = rectangles(2)
    for sample in data['data_samples']:
        sample.set_metainfo(dict(ori_shape=(128, 96), scale_factor=(2 / 3, 0.5)))
    wanted = model.test_step(copy.deepcopy(data))
    for ours, theirs in zip(fast_form(model).test_step(data), wanted, strict=True):
        torch.testing.assert_close(ours.pred_instances.bboxes, theirs.pred_instances.bboxes, rtol=1e-5, atol=1e-3)
        torch.testing.assert_close(ours.pred_instances.scores, theirs.pred_instances.scores)
        assert (ours.pred_instances.labels == theirs.pred_instances.labels).all()


def test_leaves_the_model_as_it_was() -> None:
    model = trained(tiny_model()).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    modules = [type(module) for module in model.modules()]
    fast = fast_form(model)
    assert model.training and not fast.training
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert [type(module) for module in model.modules()] == modules
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    ours = {parameter.data_ptr() for parameter in model.parameters()}
    assert not ours & {parameter.data_ptr() for parameter in fast.parameters()}


def test_in_place_it_copies_no_weights_of_the_head() -> None:
    model = trained(tiny_model())
    places = {name: value.data_ptr() for name, value in model.roi_head.named_parameters()}
    fast = fast_prediction(model).module
    assert all(value.data_ptr() == places[name] for name, value in fast.roi_head.named_parameters())


class Doubling(DIIHead):
    """Its form for prediction is wrong, and changes its own weights."""

    def for_prediction(self, classify: bool, queries: torch.Tensor | None) -> Doubling:
        for parameter in self.parameters():
            parameter.mul_(2)
        return self


def test_a_wrong_form_of_a_stage_does_not_change_the_stage() -> None:
    model = trained(tiny_model())
    images = torch.randn(1, 3, 96, 128)
    model.roi_head.bbox_head[-1].__class__ = Doubling
    logits, boxes = model(images)[-1]
    fast_logits, fast_boxes = fast_form(model)(images)[-1]
    torch.testing.assert_close(fast_logits, logits, rtol=0, atol=1e-3)
    torch.testing.assert_close(fast_boxes, boxes, rtol=0, atol=1e-2)


def test_what_is_gone() -> None:
    fast = fast_form(trained(tiny_model())).module
    assert not any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in fast.modules())
    first, last = fast.roi_head.bbox_head
    assert not list(first.cls_fcs.parameters()) and not list(first.fc_cls.parameters())
    assert not any(name.startswith('attention') for name, _ in first.named_parameters())
    assert last.fc_cls.out_features == 3
    for parameter in fast.backbone.parameters():
        assert parameter.dim() != 4 or parameter.is_contiguous(memory_format=torch.channels_last)


def test_a_tied_stage_keeps_its_parts() -> None:
    fast = fast_form(trained(tied())).module
    assert fast.roi_head.bbox_head[0].fc_cls.out_features == 3
    assert 'attn' in fast.roi_head.bbox_head[0].attention


class Backwards(nn.Module):
    """Registers the batch norm after a convolution that it does not follow."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.norm = nn.BatchNorm2d(3)
        self.norm.running_mean.fill_(0.5)
        self.norm.running_var.fill_(3.)

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        return [self.conv(self.norm(x))]


def test_a_network_that_cannot_be_folded_stays() -> None:
    net, image = Backwards().eval(), torch.rand(1, 3, 16, 16)
    before, = net(image)
    assert fold_batch_norms([net], image) == [net]
    assert torch.equal(net(image)[0], before)


@pytest.mark.parametrize('precision', ['bf16', 'fp16'])
def test_reduced_precision_stays_near(precision) -> None:
    model = trained(tiny_model())
    images = torch.randn(1, 3, 96, 128)
    logits, boxes = model(images)[-1]
    fast = fast_form(model, precision)
    fast_logits, fast_boxes = fast(images)[-1]
    assert fast_boxes.dtype == torch.float32
    assert fast.module.backbone.conv1.weight.dtype == {'bf16': torch.bfloat16, 'fp16': torch.float16}[precision]
    assert (fast_logits.float() - logits).abs().mean() < 0.1 * logits.std()
    assert (fast_boxes - boxes).abs().mean() < 0.02 * boxes.abs().max()


def test_unknown_precision() -> None:
    with pytest.raises(UserError, match="not 'int8'"):
        fast_form(trained(tiny_model()), 'int8')


def test_odd_statistics_do_not_stop_it() -> None:
    """Where the outputs are not finite, nothing can be tried, and the model stays as it is."""
    model = trained(tiny_model())
    model.backbone.bn1.running_var.fill_(float('nan'))
    fast = fast_form(model, 'fp16').module
    assert isinstance(fast.backbone.bn1, nn.BatchNorm2d) and fast.roi_head.bbox_head[0].fc_cls.out_features == 3
