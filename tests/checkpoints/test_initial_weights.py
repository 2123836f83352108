"""Pretrained weights that a config names: a file of another network is an error, and what does not fit is said once."""
from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.logging import MMLogger
from mmengine.model import BaseModule, PretrainedInit
from mmengine.runner import CheckpointLoader
from torch import nn

from sparse_rcnn_mm.checkpoints import checked_initial_weights
from sparse_rcnn_mm.errors import UserError
from sparse_rcnn_mm.registry import MODELS
from tests.kit import DIGITS_CONFIG

SWIN = dict(type='mmdet.SwinTransformer', embed_dims=8, depths=(1, 1), num_heads=(1, 1), strides=(4, 2),
            out_indices=(0, 1), convert_weights=True)
PVT = dict(type='mmdet.PyramidVisionTransformerV2', embed_dims=8, num_layers=[1] * 4, num_heads=[1] * 4)


class Detector(BaseModule):
    """Two layers that load a file, between layers that do not."""

    def __init__(self, backbone: Any, init_cfg: Any = None) -> None:
        super().__init__(init_cfg=init_cfg)
        self.backbone = backbone
        self.head = nn.Linear(2, 2)


class Backbone(BaseModule):

    def __init__(self, init_cfg: Any) -> None:
        super().__init__(init_cfg=init_cfg)
        self.first, self.second, self.norm = nn.Linear(2, 3), nn.Linear(3, 4), nn.BatchNorm1d(4)


@pytest.fixture
def lines() -> list[str]:
    """What mmengine's logger writes."""
    found: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: found.append(f'{record.levelname} {record.getMessage()}')  # type: ignore[method-assign]
    logger = MMLogger.get_current_instance()
    logger.addHandler(handler)
    yield found
    logger.removeHandler(handler)


def saved(path: Path, state: dict[str, Any]) -> dict[str, str]:
    torch.save(state, path)
    return dict(type='Pretrained', checkpoint=str(path))


def state(**more: torch.Tensor) -> dict[str, torch.Tensor]:
    torch.manual_seed(7)
    return {**Backbone(None).state_dict(), **more}


def initialized(backbone: Any, init_cfg: Any = None) -> Detector:
    model = Detector(backbone, init_cfg)
    with checked_initial_weights(model):
        model.init_weights()
    return model


def not_fitting(lines: list[str]) -> list[str]:
    return [line for line in lines if 'were loaded' in line or 'do not match' in line]


def test_all_fits_and_nothing_is_said(tmp_path: Path, lines: list[str]) -> None:
    model = initialized(Backbone(saved(tmp_path / 'a.pth', state())))
    assert all(torch.equal(value, state()[name]) for name, value in model.backbone.state_dict().items())
    assert not not_fitting(lines)
    assert 'init_weights' not in vars(model.backbone) and not model.backbone._load_state_dict_pre_hooks


def test_a_classifier_is_unused(tmp_path: Path, lines: list[str]) -> None:
    path = tmp_path / 'a.pth'
    initialized(Backbone(saved(path, state(**{'fc.weight': torch.ones(5, 4), 'fc.bias': torch.ones(5)}))))
    assert not_fitting(lines) == [f'INFO {path}: 8 of 8 weights of model.backbone were loaded; '
                                  '2 not used (fc.weight; fc.bias)']


def test_a_part_fits(tmp_path: Path, lines: list[str]) -> None:
    path = tmp_path / 'a.pth'
    contents = {name: value for name, value in state(extra=torch.ones(1)).items() if not name.startswith('norm')}
    model = initialized(Backbone(saved(path, {**contents, 'second.bias': torch.ones(5)})))
    assert torch.equal(model.backbone.first.weight, contents['first.weight'])
    assert not_fitting(lines) == [
        f'WARNING {path}: 3 of 8 weights of model.backbone were loaded; 1 of another shape (second.bias is (5,) '
        'instead of (4,)), 4 not in the file (norm.weight; norm.bias; norm.running_mean; ...), 1 not used (extra)']


@pytest.mark.parametrize('contents', [
    {}, {'features.0.weight': torch.ones(3, 2)}, {'first.weight': torch.ones(9, 9)},
    {'norm.num_batches_tracked': torch.tensor(3)}, {'state_dict': {'a': torch.ones(1)}},
])
def test_nothing_fits(tmp_path: Path, contents: dict[str, Any]) -> None:
    init_cfg = saved(tmp_path / 'a.pth', contents)
    for settings in (init_cfg, [init_cfg], {**init_cfg, 'type': PretrainedInit}):
        with pytest.raises(UserError, match='nothing in .*a.pth fits model.backbone, which has weights such as first.'
                                            'weight, first.bias, .*--cfg-options model.backbone.init_cfg=None'):
            initialized(Backbone(settings))


def test_a_whole_detector_needs_a_prefix(tmp_path: Path) -> None:
    init_cfg = saved(tmp_path / 'a.pth', {f'net.{name}': value for name, value in state().items()})
    with pytest.raises(UserError, match=r'set --cfg-options model.backbone.init_cfg.prefix=net\., or train without'):
        initialized(Backbone(init_cfg))
    model = initialized(Backbone({**init_cfg, 'prefix': 'net.'}))
    assert torch.equal(model.backbone.first.weight, state()['first.weight'])
    with pytest.raises(UserError, match='cannot be used for model.backbone.*other. is not in the pretrained model'):
        initialized(Backbone({**init_cfg, 'prefix': 'other'}))


def test_a_file_for_the_whole_model_is_not_checked_against_its_parts(tmp_path: Path, lines: list[str]) -> None:
    """The whole model's file has no weights of the backbone, which has a file of its own."""
    whole = saved(tmp_path / 'whole.pth', {'head.weight': torch.eye(2), 'head.bias': torch.ones(2)})
    model = initialized(Backbone(saved(tmp_path / 'a.pth', state())), whole)
    assert torch.equal(model.head.weight, torch.eye(2))
    assert [line.partition(': ')[2][:35] for line in not_fitting(lines)] == ['2 of 10 weights of model were loade']


@pytest.mark.parametrize('network', [SWIN, PVT], ids=['swin', 'pvt'])
def test_networks_that_rename_what_they_load(tmp_path: Path, network: dict[str, Any]) -> None:
    """mmdet's Swin and PVT have their own ways to load a file, which also continue if nothing fits."""
    for contents in ({'features.0.weight': torch.ones(3, 2)}, {}, {'layers.0.blocks.0.attn.qkv.weight': torch.ones(1)}):
        init_cfg = saved(tmp_path / 'a.pth', contents)
        with pytest.raises(UserError, match=r'a\.pth .*model\.backbone.*init_cfg=None') as caught:
            initialized(MODELS.build({**network, 'init_cfg': ConfigDict(init_cfg)}))
        assert 'AttributeError' not in str(caught.value)


def test_only_what_helps_is_advised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """PVT does not read a prefix, and `sparse-rcnn convert` no names of mmengine."""
    whole = {f'net.{name}': value for name, value in MODELS.build(PVT).state_dict().items()}
    with pytest.raises(UserError, match='fits model.backbone') as caught:
        initialized(MODELS.build({**PVT, 'init_cfg': ConfigDict(saved(tmp_path / 'a.pth', whole))}))
    assert 'prefix' not in str(caught.value)
    assert f'sparse-rcnn convert {tmp_path}/a.pth NEW.pth, or train without it' in str(caught.value)
    monkeypatch.setitem(CheckpointLoader._schemes, 'mmcls://', lambda *_, **__: {'a': torch.ones(1)})
    with pytest.raises(UserError, match='mmcls://x fits model.backbone.*: train without it: --cfg') as caught:
        initialized(Backbone(dict(type='Pretrained', checkpoint='mmcls://x')))
    assert 'convert' not in str(caught.value)


def test_of_another_depth(tmp_path: Path, lines: list[str]) -> None:
    """A deeper ResNet's file has other shapes, and blocks more."""
    def resnet(depth: int, init_cfg: Any = None) -> Any:
        return MODELS.build(dict(type='mmdet.ResNet', depth=depth, base_channels=8, init_cfg=init_cfg))

    initialized(resnet(18, saved(tmp_path / 'a.pth', resnet(34).state_dict())))
    line, = not_fitting(lines)
    assert line.startswith('INFO') and '100 of 100 weights' in line and '80 not used (layer1.2.' in line


@pytest.mark.parametrize(('contents', 'said'), [
    ({'features.0.weight': torch.ones(3, 2)}, 'fits model.backbone, which has weights such as conv1.weight'),
    ({'backbone.conv1.weight': torch.ones(8, 3, 7, 7)}, 'init_cfg.prefix=backbone.')])
def test_training_ends_before_the_first_step(tool: Callable[..., int], small: list[str], tmp_path: Path,
                                             capsys: pytest.CaptureFixture, contents: dict[str, Any],
                                             said: str) -> None:
    init_cfg = {**saved(tmp_path / 'a.pth', contents), '_delete_': True}
    Path('wrong.py').write_text(f"_base_ = '{DIGITS_CONFIG}'\nmodel = dict(backbone=dict(init_cfg={init_cfg}))\n")
    assert tool('train', 'wrong.py', '--work-dir', 'work', *small) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith('error: nothing in the pretrained weights') and said in error
    assert not list(Path('work').glob('*.pth'))
