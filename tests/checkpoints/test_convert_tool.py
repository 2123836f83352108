"""The conversion tool: complete, or an error that lists what is wrong; backbones; the way back."""
import pickle

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope

from sparse_rcnn_mm.checkpoints import read_checkpoint
from sparse_rcnn_mm.cli import convert
from sparse_rcnn_mm.errors import one_sentence
from sparse_rcnn_mm.registry import MODELS

from ..parity.cases import official_state


@pytest.fixture(scope='module')
def official():
    return official_state('tiny')


def run(*arguments):
    with one_sentence():
        convert.main([*map(str, arguments)])


def fails_with(capsys, *arguments) -> str:
    """The one line that is printed."""
    with pytest.raises(SystemExit) as caught:
        run(*arguments)
    assert caught.value.code == 1
    message = capsys.readouterr().err
    assert message.startswith('error: ') and message.count('\n') == 1
    return message


@pytest.mark.parametrize('wrap', [lambda state: dict(model=state, optimizer=dict(state={})), lambda state: state])
def test_out_holds_a_model_that_its_own_config_builds_and_the_way_back_is_bit_exact(
        official, tmp_path, wrap):
    torch.save(wrap(official), tmp_path / 'in.pth')
    run(tmp_path / 'in.pth', tmp_path / 'new' / 'out.pth', '--classes', 'a', 'b', 'c', 'd', 'e')
    checkpoint = read_checkpoint(tmp_path / 'new' / 'out.pth')
    assert checkpoint['meta']['dataset_meta'] == dict(classes=('a', 'b', 'c', 'd', 'e'))
    cfg = Config.fromstring(checkpoint['meta']['cfg'], '.py')
    assert cfg.test_dataloader.dataset.metainfo.classes == ('a', 'b', 'c', 'd', 'e')
    init_default_scope('sparse_rcnn_mm')
    MODELS.build(cfg.model).load_state_dict(checkpoint['state_dict'])

    run(tmp_path / 'new' / 'out.pth', tmp_path / 'back.pth', '--to-official')
    back = read_checkpoint(tmp_path / 'back.pth')['model']
    assert back.keys() == official.keys() and all(torch.equal(back[name], official[name]) for name in official)


def test_everything_that_does_not_fit_is_listed(official, capsys, tmp_path):
    state = dict(official)
    del state['head.head_series.1.norm2.bias'], state['backbone.fpn_output4.bias']
    state['head.head_series.0.bboxes_delta.weight'] = torch.zeros(5, 64)
    torch.save(state, tmp_path / 'in.pth')
    message = fails_with(capsys, tmp_path / 'in.pth', tmp_path / 'out.pth')
    for part in ('roi_head.bbox_head.1.instance_interactive_conv_norm.bias', 'neck.fpn_convs.2.conv.bias',
                 'roi_head.bbox_head.0.fc_reg.weight is (5, 64) instead of (4, 64)'):
        assert part in message
    assert not (tmp_path / 'out.pth').exists()


@pytest.mark.parametrize(('change', 'message'), [
    ({'criterion.empty_weight': torch.ones(6)}, 'softmax loss'),
    ({'mask_head.weight': torch.ones(6)}, '1 entries are unknown (mask_head.weight)'),
    ({'init_proposal_features.weight': None}, 'lacks rpn_head.init_proposal_features.weight'),
    ({'backbone.bottom_up.res4.5.conv1.weight': None}, 'backbone.layer3.5.conv1.weight'),
    ({'backbone.bottom_up.res4.6.conv1.weight': torch.ones(1)}, 'no ResNet has (3, 4, 7, 3) bottleneck blocks'),
])
def test_other_models_are_refused(official, capsys, tmp_path, change, message):
    state = {name: value for name, value in {**official, **change}.items() if value is not None}
    torch.save(dict(model=state), tmp_path / 'in.pth')
    assert message in fails_with(capsys, tmp_path / 'in.pth', tmp_path / 'out.pth')


def test_wrong_number_of_class_names(official, capsys, tmp_path):
    torch.save(official, tmp_path / 'in.pth')
    message = fails_with(capsys, tmp_path / 'in.pth', tmp_path / 'out.pth', '--classes', 'a', 'b')
    assert '2 class names were given, but the checkpoint has 5 classes' in message


def detectron2_backbone(official) -> dict:
    """What detectron2 makes of torchvision's ResNet-50: no prefix, and the classifier under the stem."""
    prefix = 'backbone.bottom_up.'
    state = {name.removeprefix(prefix): value.numpy() for name, value in official.items() if name.startswith(prefix)}
    state['stem.fc.weight'] = np.zeros((1000, 2048), np.float32)
    return state


def test_a_backbone_becomes_a_file_for_init_cfg(official, capsys, tmp_path):
    state = detectron2_backbone(official)
    contents = dict(model=state, __author__='torchvision', matching_heuristics=True)
    (tmp_path / 'R-50.pkl').write_bytes(pickle.dumps(contents))
    run(tmp_path / 'R-50.pkl', tmp_path / 'out.pth')
    assert 'ResNet-50 for model.backbone.init_cfg' in capsys.readouterr().out
    backbone = MODELS.build(dict(type='mmdet.ResNet', depth=50, init_cfg=dict(
        type='Pretrained', checkpoint=str(tmp_path / 'out.pth'))))
    backbone.init_weights()
    ours = backbone.state_dict()
    for name, theirs in {'layer3.5.conv3.weight': 'res4.5.conv3.weight', 'bn1.bias': 'stem.conv1.norm.bias',
                         'layer1.0.downsample.1.running_var': 'res2.0.shortcut.norm.running_var'}.items():
        assert torch.equal(ours[name], torch.from_numpy(state[theirs]))


def test_an_incomplete_backbone_is_refused(official, capsys, tmp_path):
    state = detectron2_backbone(official)
    del state['res3.1.conv2.norm.weight']
    (tmp_path / 'R-50.pkl').write_bytes(pickle.dumps(state))
    assert 'layer2.1.bn2.weight' in fails_with(capsys, tmp_path / 'R-50.pkl', tmp_path / 'out.pth')


@pytest.mark.parametrize(('name', 'value'), [
    ('backbone.fpn_lateral99999999999999999999.weight', torch.zeros(1)),
    ('head.head_series.99999999999999999999.class_logits.bias', torch.zeros(1)),
    ('head.head_series.99.class_logits.bias', torch.zeros(1)),
    (f'head.head_series.{"9" * 5000}.class_logits.bias', torch.zeros(1)),
    ('init_proposal_features.weight', torch.zeros(100)), ('init_proposal_features.weight', torch.tensor(1.)),
    ('init_proposal_features.weight', torch.zeros(1, 63)),
    ('head.head_series.0.class_logits.weight', torch.zeros(0, 64)),
    ('head.head_series.0.class_logits.weight', torch.zeros(1).expand(10 ** 12, 64)), (7, torch.zeros(1)),
    (('a', 'tuple'), torch.zeros(1)),
], ids=lambda value: str(value)[:60] if isinstance(value, str) else '')
def test_sizes_and_names_made_to_harm(name, value, official, capsys, tmp_path):
    """Numbers in names must not be counted up to, nor sizes in shapes be allocated."""
    torch.save({**official, name: value}, tmp_path / 'in.pth')
    fails_with(capsys, tmp_path / 'in.pth', tmp_path / 'out.pth')
    assert not (tmp_path / 'out.pth').exists()
