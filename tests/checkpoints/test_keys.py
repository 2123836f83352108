"""The rule of names against the list of an official R50 with 100 proposals, and against the models that it is for."""
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope

from sparse_rcnn_mm.checkpoints.keys import from_official_name, rename, to_official_name
from sparse_rcnn_mm.checkpoints.official import Architecture, from_official, to_official
from sparse_rcnn_mm.registry import MODELS

from ..parity.cases import ROOT, load_dump, official_state


def meta_state(depth: int = 50, **sizes) -> dict[str, torch.Tensor]:
    """The state dict of our model, without numbers."""
    init_default_scope('sparse_rcnn_mm')
    cfg = Config.fromfile(ROOT / 'configs' / '_base_' / 'models' / 'sparse_rcnn_r50.py')
    levels = (64, 128, 256, 512) if depth < 50 else (256, 512, 1024, 2048)
    defaults = dict(channels=64, num_proposals=7, num_stages=2, num_classes=3, dynamic_channels=8, ffn_channels=96,
                    num_cls_fcs=1, num_reg_fcs=3)
    architecture = Architecture(depth, levels, **{**defaults, **sizes})
    architecture.apply_to(cfg)
    with torch.device('meta'):
        state = MODELS.build(cfg.model).state_dict()
    assert Architecture.of(state) == architecture
    return state


def test_every_entry_of_the_official_r50_has_its_name_here_and_back():
    dump = load_dump('r50_100')
    assert [from_official_name(name) for name in dump['names']] == dump['our_names']
    assert [to_official_name(name) for name in dump['our_names']] == dump['names']


def test_the_official_r50_gives_exactly_our_576_entries():
    dump = load_dump('r50_100')
    named = from_official({name: torch.empty(shape, device='meta') for name, shape in dump.shapes.items()})
    ours = meta_state(channels=256, num_proposals=100, num_stages=6, num_classes=80, dynamic_channels=64,
                      ffn_channels=2048)
    assert len(dump.shapes) == 523 and len(ours) == 576
    assert {name: value.shape for name, value in named.items()} == {name: value.shape for name, value in ours.items()}
    counters = [value for name, value in named.items() if name.endswith('num_batches_tracked')]
    assert len(counters) == 53 and all(value == 0 and value.dtype == torch.long for value in counters)


@pytest.mark.parametrize('depth', [18, 34, 50, 101, 152])
@pytest.mark.parametrize('sizes', [dict(), dict(num_stages=11, num_reg_fcs=2, num_classes=1)])
def test_names_and_sizes_for_other_depths_and_heads(depth, sizes):
    ours = meta_state(depth, **sizes)
    official, unknown = rename(ours, official=True)
    assert all(name.endswith('num_batches_tracked') for name in unknown)
    assert len(official) == len(ours) - len(unknown)
    assert from_official(official).keys() == ours.keys()


def test_round_trip_is_bit_exact():
    official = official_state('tiny')
    ours = from_official(official)
    back = to_official(ours)
    assert back.keys() == official.keys() and all(torch.equal(back[name], official[name]) for name in official)
    again = from_official(back)
    assert again.keys() == ours.keys() and all(torch.equal(again[name], ours[name]) for name in ours)


@pytest.mark.parametrize('name', [
    'criterion.empty_weight', 'pixel_mean', 'head.head_series.0.norm4.weight',
    'backbone.bottom_up.res2.0.conv1.norm.weight.x',
    'backbone.fpn_lateral2.conv.weight', 'xbackbone.fpn_output3.bias', 'head.head_series.x.norm1.weight'])
def test_other_names_are_not_translated(name):
    assert from_official_name(name) is None
