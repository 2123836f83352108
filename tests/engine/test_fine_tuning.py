"""Stages of any backbone, learning rates that fall by stage, frozen stages, and low-rank updates."""
from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.registry import DefaultScope
from torch import nn

from sparse_rcnn_mm.backbones.known import KNOWN
from sparse_rcnn_mm.backbones.stages import stages_of
from sparse_rcnn_mm.checkpoints import load_contents, read_checkpoint
from sparse_rcnn_mm.checkpoints.lora import has_lora, merged
from sparse_rcnn_mm.engine.fine_tuning import LayerDecayConstructor, freeze_stages
from sparse_rcnn_mm.engine.lora import LoRALinear, add_lora, start_lora
from sparse_rcnn_mm.errors import UserError
from sparse_rcnn_mm.inference import Detector
from sparse_rcnn_mm.registry import MODELS
from tests.kit import DIGITS_CONFIG
from tests.kit.checkpoints import differences


def backbone(name: str, **more: Any) -> Any:
    with DefaultScope.overwrite_default_scope('sparse_rcnn_mm'):
        return MODELS.build({**copy.deepcopy(KNOWN[name].config), 'init_cfg': None, **more})


@pytest.mark.parametrize(('name', 'more', 'wanted'), [
    ('resnet18', dict(base_channels=8), {'conv1.weight': 0, 'bn1.bias': 0, 'layer1.1.conv2.weight': 0,
                                         'layer2.0.downsample.0.weight': 1, 'layer4.1.bn2.weight': 3}),
    ('resnet18', dict(base_channels=8, out_indices=(1, 2, 3)), {'conv1.weight': 0, 'layer2.0.conv1.weight': 0,
                                                                'layer3.0.conv1.weight': 1}),
    ('resnet18', dict(base_channels=8, with_cp=True), {'layer1.0.conv1.weight': 0, 'layer4.0.conv1.weight': 3}),
    ('mobilenet_v2', dict(out_indices=(1, 2, 4, 6)), {'conv1.conv.weight': 0, 'layer3.0.expand_conv.conv.weight': 1,
                                                      'layer7.0.linear_conv.bn.bias': 3}),
    ('pvt_v2_b0', {}, {'layers.0.0.projection.weight': 0, 'layers.2.1.0.attn.attn.in_proj_weight': 2,
                       'layers.3.2.weight': 3}),
])
def test_stages_by_hand_and_nothing_is_changed(name: str, more: dict[str, Any], wanted: dict[str, int]) -> None:
    network = backbone(name, **more)
    network.train()
    state = {key: value.clone() for key, value in network.state_dict().items()}
    asks = [value.requires_grad for value in network.parameters()]
    modes = [module.training for module in network.modules()]
    found = stages_of(network)
    assert {key: found[key] for key in wanted} == wanted
    unused = {key for key, _ in network.named_parameters()} - set(found)
    assert all(key.startswith('conv2.') for key in unused) and bool(unused) == (name == 'mobilenet_v2')
    assert all(torch.equal(value, state[key]) for key, value in network.state_dict().items())
    assert [value.requires_grad for value in network.parameters()] == asks
    assert [module.training for module in network.modules()] == modes
    assert all(value.grad is None for value in network.parameters())


class Small(nn.Module):

    def __init__(self) -> None:
        super().__init__()
        self.backbone = backbone('resnet18', base_channels=8, frozen_stages=-1,
                                 norm_cfg=dict(type='BN', requires_grad=True), norm_eval=False)
        self.head = nn.Sequential(nn.Linear(8, 4), nn.LayerNorm(4))
        self.fc_cls = nn.Linear(4, 2)


def rates(model: Small, paramwise: dict[str, Any]) -> tuple[dict[str, tuple[float, float]], Any]:
    wrapper = LayerDecayConstructor(dict(optimizer=dict(type='AdamW', lr=1., weight_decay=0.5)), paramwise)(model)
    names = {id(value): name for name, value in model.named_parameters()}
    return {names[id(value)]: (group['lr'], group['weight_decay'])
            for group in wrapper.optimizer.param_groups for value in group['params']}, wrapper


def test_learning_rates_fall_from_the_head_to_the_image() -> None:
    model = Small()
    model.backbone.layer1.requires_grad_(False)
    found, wrapper = rates(model, dict(layer_decay=0.5))
    wanted = {'head.0.weight': 1, 'fc_cls.bias': 1, 'backbone.layer4.0.conv1.weight': 0.5,
              'backbone.layer3.0.bn1.weight': 0.25, 'backbone.layer2.0.conv1.weight': 0.125,
              'backbone.conv1.weight': 0.0625}
    assert {name: found[name] for name in wanted} == {name: (rate, 0.5) for name, rate in wanted.items()}
    assert 'backbone.layer1.0.conv1.weight' not in found
    assert [group['lr'] for group in wrapper.optimizer.param_groups] == [1, 0.5, 0.25, 0.125, 0.0625]


def test_other_settings_of_parameters_keep_their_effect() -> None:
    found, _ = rates(Small(), dict(layer_decay=0.5, norm_decay_mult=0., custom_keys={'conv1': dict(lr_mult=10.)}))
    assert found['backbone.layer4.0.conv1.weight'] == (5., 0.5)
    assert found['backbone.layer4.0.bn1.weight'] == (0.5, 0.) and found['head.1.weight'] == (1., 0.)


@pytest.mark.parametrize('decay', [0, 1.5, 'x'])
def test_a_decay_that_makes_no_sense(decay: Any) -> None:
    with pytest.raises(UserError, match='layer_decay is'):
        rates(Small(), dict(layer_decay=decay))


def test_frozen_stages_keep_weights_and_statistics() -> None:
    network = Small().backbone
    count = freeze_stages(network, 2)
    network.train()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    maps = network(torch.rand(2, 3, 64, 64))
    assert [one.requires_grad for one in maps] == [False, False, True, True]
    changed = {key.split('.')[0] for key, value in network.state_dict().items() if not torch.equal(value, before[key])}
    assert changed == {'layer3', 'layer4'}
    assert count == sum(value.numel() for name, value in network.named_parameters()
                        if name.startswith(('conv1', 'bn1', 'layer1', 'layer2')))
    with pytest.raises(UserError, match='the backbone has 4 stages'):
        freeze_stages(network, 5)


def test_low_rank_updates_train_alone_and_merge() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 5), nn.MultiheadAttention(5, 1), nn.Linear(5, 3))
    model.add_module('fc_cls', nn.Linear(3, 2))
    x = torch.randn(4, 6)

    def run(network: nn.Module) -> torch.Tensor:
        y = network[0](x)  # type: ignore[index]
        return network.fc_cls(network[2](y + network[1](y, y, y)[0]))  # type: ignore[index, operator]

    wanted = run(model)
    plain_names = set(model.state_dict())
    assert add_lora(model, 2) == ['0', '1.out_proj', '2']
    nn.init.constant_(model[0].weight, 0.25)  # initialization after the change still sets the weight
    assert model.state_dict()['0.weight'].unique().tolist() == [0.25]
    start_lora(model)
    model.load_state_dict({**model.state_dict(), '0.weight': torch.full((5, 6), 0.5)})
    assert set(model.state_dict()) == plain_names | {f'{layer}.lora_{part}' for layer in ('0', '1.out_proj', '2')
                                                     for part in ('up', 'down')}
    assert wanted.shape == run(model).shape
    before = {key: value.clone() for key, value in model.state_dict().items()}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        run(model).square().sum().backward()
        optimizer.step()
    changed = {key for key, value in model.state_dict().items() if not torch.equal(value, before[key])}
    assert changed == (set(model.state_dict()) - plain_names) | {'fc_cls.weight', 'fc_cls.bias'}

    plain = nn.Sequential(nn.Linear(6, 5), nn.MultiheadAttention(5, 1), nn.Linear(5, 3))
    plain.add_module('fc_cls', nn.Linear(3, 2))
    load_contents(plain, {'state_dict': model.state_dict()}, 'a.pth')  # adds the updates
    torch.testing.assert_close(run(plain), run(model))
    load_contents(model, {'state_dict': plain.state_dict()}, 'a.pth')  # has none: those of the model stay
    assert torch.equal(model.state_dict()['0.lora_up'], model[0].lora_up)


def test_incomplete_updates_stay_and_are_reported() -> None:
    state = {'a.weight': torch.zeros(3, 2), 'a.lora_down': torch.ones(1, 2), 'b.lora_up': torch.ones(3, 1),
             'c.weight': torch.zeros(3, 2), 'c.lora_up': torch.ones(3, 1), 'c.lora_down': torch.ones(2, 2)}
    assert merged(state).keys() == state.keys()
    full = merged({**state, 'a.lora_up': torch.full((3, 1), 2.)})
    assert torch.equal(full['a.weight'], torch.full((3, 2), 2.)) and 'a.lora_up' not in full
    with pytest.raises(UserError, match=r'lora.rank is 0'):
        add_lora(nn.Linear(2, 2), 0)
    assert isinstance(nn.Linear(2, 2), nn.Linear) and not isinstance(nn.Linear(2, 2), LoRALinear)


@pytest.mark.slow
def test_training_with_all_of_it_resumes_and_becomes_a_plain_checkpoint(
        tool: Callable[..., int], small: list[str], tmp_path: Path, colored: Any) -> None:
    options = [*small, 'lora.rank=4', 'layer_decay=0.5', 'frozen_stages=1',
               'custom_hooks=[{"type":"InferenceCheckpointHook"}]']
    assert tool('train', DIGITS_CONFIG, '--work-dir', 'whole', *options) == 0
    assert tool('train', DIGITS_CONFIG, '--work-dir', 'halves', *options, 'train_cfg.max_iters=2',
                'param_scheduler.0.total_steps=4') == 0
    assert tool('train', DIGITS_CONFIG, '--work-dir', 'halves', '--resume', *options) == 0
    assert differences(tmp_path / 'whole/iter_4.pth', tmp_path / 'halves/iter_4.pth') == []
    last = read_checkpoint(tmp_path / 'whole/iter_4.pth')['state_dict']
    plain = read_checkpoint(tmp_path / 'whole/inference.pth')['state_dict']
    assert has_lora(last) and not has_lora(plain)
    assert any(bool(value.any()) for name, value in last.items() if name.endswith('lora_up'))
    one, other = (Detector.from_checkpoint(tmp_path / 'whole' / name, device='cpu')
                  for name in ('iter_4.pth', 'inference.pth'))
    assert np.array_equal(one(colored(0)).boxes, other(colored(0)).boxes)
    assert tool('convert_official_checkpoint', tmp_path / 'whole/iter_4.pth', 'converted.pth') == 0
    assert all(torch.equal(value, plain[name]) for name, value in
               read_checkpoint(tmp_path / 'converted.pth')['state_dict'].items())
    assert tool('train', DIGITS_CONFIG, '--work-dir', 'next', '--load-from', 'whole/inference.pth', *options) == 0
