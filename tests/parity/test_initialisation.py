"""What an untrained model is drawn from, by name: the official distributions, without the bias set by size there."""
import math

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope

from sparse_rcnn_mm.checkpoints.official import Architecture
from sparse_rcnn_mm.registry import MODELS

from .cases import ROOT

CHANNELS = 64
PRIOR = -math.log(99)


@pytest.fixture(scope='module', params=[3, 4, 8, 64, 128])
def model(request):
    """With each number of classes that makes the official code spoil another parameter (4, 64, 8 and 128 here)."""
    init_default_scope('sparse_rcnn_mm')
    cfg = Config.fromfile(ROOT / 'configs' / '_base_' / 'models' / 'sparse_rcnn_r50.py')
    Architecture(50, (256, 512, 1024, 2048), channels=CHANNELS, num_proposals=30, num_stages=2,
                 num_classes=request.param, dynamic_channels=8,
                 ffn_channels=128, num_cls_fcs=1, num_reg_fcs=3).apply_to(cfg)
    cfg.model.backbone.init_cfg = None
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    model.init_weights()
    return model


def assert_uniform(x: torch.Tensor, bound: float, name: str) -> None:
    """Within the bounds and filling them, with the spread of a uniform draw: five standard errors."""
    count = x.numel()
    assert x.abs().max() <= bound * (1 + 1e-6), name
    assert x.abs().max() >= bound * (1 - 10 / count), name
    assert abs(x.mean()) <= 5 * bound / math.sqrt(3 * count), name
    # the variance of x^2 is 4/45 bound^4
    assert abs((x**2).mean() - bound**2 / 3) <= 5 * bound**2 * math.sqrt(4 / 45 / count), name


def test_stages(model):
    norms = ('attention_norm', '_conv_norm', 'ffn_norm', 'norm_in', 'norm_out', 'fc_norm')
    for name, parameter in model.roi_head.named_parameters():
        module, leaf = name.rsplit('.', 1)
        is_norm = module.endswith(norms) or ('_fcs.' in name and parameter.dim() == 1)
        x = parameter.detach()
        if is_norm:
            assert (x == float(leaf == 'weight')).all(), name
        elif name.endswith('fc_cls.bias'):
            assert torch.allclose(x, torch.tensor(PRIOR)), name
        elif 'attn' in name and leaf in ('in_proj_bias', 'bias'):
            assert (x == 0).all(), name
        elif parameter.dim() > 1:
            assert_uniform(x, math.sqrt(6 / (x.shape[0] + x.shape[1])), name)
        else:
            fan_in = model.get_parameter(f'roi_head.{module}.weight').shape[1]
            assert 0.1 / math.sqrt(fan_in) < x.square().mean().sqrt() and x.abs().max() <= 1 / math.sqrt(fan_in), name


def test_the_official_accident_is_left_out(model):
    """Only the class bias is at the prior, however many classes there are."""
    for name, parameter in model.roi_head.named_parameters():
        at_prior = torch.isclose(parameter, torch.tensor(PRIOR)).all()
        assert at_prior == name.endswith('fc_cls.bias'), name


def test_proposals(model):
    boxes = model.rpn_head.init_proposal_bboxes.weight
    assert torch.equal(boxes, torch.tensor([0.5, 0.5, 1., 1.]).expand(30, 4))
    features = model.rpn_head.init_proposal_features.weight
    count = features.numel()
    assert abs(features.mean()) < 5 / math.sqrt(count) and abs(features.std() - 1) < 5 / math.sqrt(2 * count)
    assert features.abs().max() > 2.5, 'normal, not uniform'


def test_feature_pyramid(model):
    for index, fan_in in enumerate((256, 512, 1024, 2048)):
        conv = model.neck.lateral_convs[index].conv
        assert_uniform(conv.weight.detach(), math.sqrt(3 / fan_in), f'lateral {index}')
        assert (conv.bias == 0).all()
        conv = model.neck.fpn_convs[index].conv
        assert_uniform(conv.weight.detach(), math.sqrt(3 / (9 * CHANNELS)), f'output {index}')
        assert (conv.bias == 0).all()


def test_what_is_trained(model):
    """Batch norms, the stem and the first residual stage are frozen, as in the official code."""
    for name, parameter in model.named_parameters():
        frozen = name.startswith('backbone.') and ('bn' in name or 'downsample.1' in name or
                                                   name.startswith(('backbone.conv1', 'backbone.layer1')))
        assert parameter.requires_grad != frozen, name
