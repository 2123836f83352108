"""Convolutions with ReLU and sums inside give the numbers of separate operations."""
from __future__ import annotations

import copy

import pytest
import torch
from mmdet.models.backbones import ResNet
from torch import nn

from sparse_rcnn_mm.acceleration.fused_convolutions import FusedBlock, FusedConv, available, fuse_convolutions
from sparse_rcnn_mm.acceleration.prediction import fold_batch_norms

pytestmark = pytest.mark.skipif(not available(torch.zeros(1)), reason='PyTorch was built without oneDNN')


def folded_resnet(**settings: object) -> nn.Module:
    torch.manual_seed(0)
    net = ResNet(**{'depth': 18, 'base_channels': 64, **settings}).requires_grad_(False)
    net.eval()  # returns None in mmdet
    for norm in (module for module in net.modules() if isinstance(module, nn.BatchNorm2d)):
        norm.running_mean.normal_(std=0.2)
        norm.running_var.uniform_(0.5, 2.)
    return fold_batch_norms([net], torch.rand(1, 3, 64, 64))[0]


@pytest.mark.parametrize('settings', [
    dict(), dict(depth=50, base_channels=16), dict(depth=50, base_channels=16, style='caffe'),
    dict(depth=50, base_channels=16, strides=(1, 2, 2, 1), dilations=(1, 1, 1, 2)),
    dict(depth=50, base_channels=16, avg_down=True)], ids=str)
@pytest.mark.parametrize('size', [(64, 96), (203, 331)], ids=str)
def test_resnet(settings: dict, size: tuple[int, int]) -> None:
    net = folded_resnet(**settings)
    fused = copy.deepcopy(net)
    fuse_convolutions(fused)
    assert sum(isinstance(module, FusedBlock) for module in fused.modules()) == (8 if not settings else 16)
    images = torch.randn(2, 3, *size).contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        for ours, wanted in zip(fused(images), net(images), strict=True):
            torch.testing.assert_close(ours, wanted, rtol=0, atol=2e-5 * wanted.abs().max().item())


@pytest.mark.parametrize('settings', [
    dict(deep_stem=True),
    dict(depth=50, plugins=[dict(cfg=dict(type='ContextBlock', ratio=0.5), position='after_conv3')]),
], ids=['deep stem', 'plugins'])
def test_what_stands_between_a_convolution_and_relu_stays(settings: dict) -> None:
    net = folded_resnet(base_channels=16, **settings)
    fused = copy.deepcopy(net)
    fuse_convolutions(fused)
    with torch.no_grad():
        for ours, wanted in zip(fused(torch.ones(1, 3, 64, 64)), net(torch.ones(1, 3, 64, 64)), strict=True):
            torch.testing.assert_close(ours, wanted, rtol=0, atol=2e-5 * wanted.abs().max().item())


def test_batch_norms_that_are_not_folded() -> None:
    net = ResNet(18, base_channels=8)
    fuse_convolutions(net)
    assert not any(isinstance(module, FusedBlock) for module in net.modules())
    assert isinstance(net.relu, nn.ReLU)


def conv() -> FusedConv:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(8, 4, 1)).requires_grad_(False)
    fuse_convolutions(net)
    return net[0]


def test_by_hand() -> None:
    layer = conv()
    layer.weight.zero_()[:, 0, 0, 0] = torch.tensor([1., -1., 2., 0.])
    layer.bias.copy_(torch.tensor([0., 0., 1., -5.]))
    layer.relu = True
    x = torch.zeros(1, 8, 1, 2)
    x[0, 0, 0] = torch.tensor([3., -2.])
    assert layer(x)[0, :, 0].tolist() == [[3., 0.], [0., 2.], [7., 0.], [0., 0.]]
    assert layer(x, torch.ones(1, 4, 1, 2))[0, :, 0].tolist() == [[4., 0.], [0., 3.], [8., 0.], [0., 0.]]


def test_copies_and_changed_weights_are_followed() -> None:
    layer, x = conv(), torch.randn(1, 8, 5, 7)
    before = layer(x)
    other = copy.deepcopy(layer)
    torch.testing.assert_close(other(x), before, rtol=0, atol=0)
    layer.weight.mul_(2)
    layer.bias.mul_(2)
    torch.testing.assert_close(layer(x), 2 * before)
    torch.testing.assert_close(other(x), before, rtol=0, atol=0)


@pytest.mark.parametrize('dtype', [torch.float64, torch.bfloat16])
def test_other_types(dtype: torch.dtype) -> None:
    layer, x = conv(), torch.randn(1, 8, 5, 7)
    wanted = torch.relu(layer(x) + 1)
    layer.relu = True
    ours = layer.to(dtype)(x.to(dtype), torch.ones(1, 4, 5, 7, dtype=dtype))
    torch.testing.assert_close(ours.float(), wanted, rtol=0.02 if dtype == torch.bfloat16 else 1e-5, atol=0.02)
