"""Networks of timm give what timm gives, at the strides that are asked for."""
from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from sparse_rcnn_mm.backbones import TimmBackbone
from sparse_rcnn_mm.backbones.timm_backbone import timm_channels
from sparse_rcnn_mm.cli import convert
from sparse_rcnn_mm.errors import UserError
from tests.kit.timm import timm_or_skip

timm: Any = timm_or_skip()
NETWORKS = ['resnet10t', 'convnext_atto', 'mobilenetv3_small_050', 'swin_tiny_patch4_window7_224', 'pvt_v2_b0']


@pytest.mark.parametrize('name', NETWORKS)
def test_features_are_timms(name: str) -> None:
    torch.manual_seed(0)
    ours = TimmBackbone(model=name).eval()
    more = dict(strict_img_size=False) if 'swin' in name else {}
    theirs = timm.create_model(name, features_only=True, **more).eval()
    theirs.load_state_dict(ours.body.state_dict())
    image = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        found, everything = ours(image), theirs(image)
    by_stride = {64 // (one.shape[1] if 'swin' in name else one.shape[2]): one for one in everything}
    for stride, one in zip((4, 8, 16, 32), found, strict=True):
        wanted = by_stride[stride].permute(0, 3, 1, 2) if 'swin' in name else by_stride[stride]
        torch.testing.assert_close(one, wanted, atol=0, rtol=0)
    assert [one.shape[1] for one in found] == ours.channels == timm_channels(name, (4, 8, 16, 32))


def test_strides_by_choice_and_those_that_are_missing() -> None:
    backbone = TimmBackbone(model='resnet10t', strides=(8, 32)).eval()
    assert [one.shape[2:] for one in backbone(torch.zeros(1, 3, 64, 64))] == [(8, 8), (2, 2)]
    with pytest.raises(UserError, match='has feature maps of the strides 16, and none of 4'):
        TimmBackbone(model='vit_tiny_patch16_224')


@pytest.mark.parametrize('name', ['hf-hub:somebody/something', 'local-dir:x', 'https://x/y.pth', 'resnet10x'])
def test_only_names_of_networks_are_taken(name: str) -> None:
    with pytest.raises(UserError, match=r'timm .* has no network'):
        TimmBackbone(model=name)


@pytest.mark.parametrize('name', ['resnet10t', 'convnext_atto', 'mobilenetv3_small_050'])
def test_frozen_stages_and_batch_norms(name: str) -> None:
    backbone = TimmBackbone(model=name, frozen_stages=2).train()
    maps = backbone(torch.rand(1, 3, 64, 64))
    assert [one.requires_grad for one in maps] == [False, False, True, True]
    norms = [module for module in backbone.modules() if isinstance(module, nn.BatchNorm2d)]
    assert not any(module.training for module in norms)
    assert backbone.training


def test_weights_of_a_file(tmp_path: Path) -> None:
    """A classifier of timm as it is saved; code in a file is not run."""
    torch.manual_seed(0)
    classifier = timm.create_model('convnext_atto').eval()
    torch.save(classifier.state_dict(), tmp_path / 'weights.pth')
    backbone = TimmBackbone(model='convnext_atto', init_cfg=dict(
        type='Pretrained', checkpoint=str(tmp_path / 'weights.pth'))).eval()
    backbone.init_weights()
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(backbone(image)[-1], classifier.forward_intermediates(image)[1][-1])
    (tmp_path / 'weights.pth').write_bytes(b'cos\nsystem\n(S"touch hacked"\ntR.')
    with pytest.raises(UserError, match='contains more than data'):
        TimmBackbone(model='convnext_atto', init_cfg=dict(
            type='Pretrained', checkpoint=str(tmp_path / 'weights.pth'))).init_weights()
    assert not Path('hacked').exists()


def test_a_converted_file(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """What `convert --backbone` writes is loaded by the backbone of this name, and by no other."""
    torch.manual_seed(0)
    torch.save({'state_dict': timm.create_model('convnext_atto').state_dict()}, tmp_path / 'theirs.pth')
    convert.main([str(tmp_path / 'theirs.pth'), str(tmp_path / 'out.pth'), '--backbone', 'timm/convnext_atto'])
    assert 'backbone=timm/convnext_atto' in capsys.readouterr().out
    one, other = (TimmBackbone(model='convnext_atto', init_cfg=dict(type='Pretrained', checkpoint=str(tmp_path / name)))
                  for name in ('theirs.pth', 'out.pth'))
    for backbone in (one, other):
        backbone.init_weights()
    assert all(torch.equal(value, other.state_dict()[name]) for name, value in one.state_dict().items())
    with pytest.raises(UserError, match='does not fit the network convnext_femto of timm'):
        TimmBackbone(model='convnext_femto', init_cfg=dict(
            type='Pretrained', checkpoint=str(tmp_path / 'out.pth'))).init_weights()
