"""The conversion tool: complete, or an error that lists what is wrong; backbones; the way back."""
import pickle

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope

from sparse_rcnn_mm.checkpoints import Metadata, read_checkpoint
from sparse_rcnn_mm.checkpoints.official import dataset_meta, from_official
from sparse_rcnn_mm.cli import convert
from sparse_rcnn_mm.errors import one_sentence
from sparse_rcnn_mm.registry import MODELS

from ..parity.cases import official_state
from .test_reading import Marker


def test_class_names_where_none_are_given():
    assert dataset_meta(3) == {'classes': ('class_0', 'class_1', 'class_2')}
    coco = dataset_meta(80)
    assert [len(coco[key]) for key in ('classes', 'palette')] == [80, 80] and coco['classes'][79] == 'toothbrush'
    assert dataset_meta(2, ['a', 'b']) == {'classes': ('a', 'b')}


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


@pytest.mark.parametrize(('out', 'more', 'sentence'), [
    ('in.pth', [], 'is IN, which has more in it than OUT gets'),
    ('sub/../in.pth', [], 'is IN, which has more in it than OUT gets'),
    ('out.onnx', [], "OUT must end in .pth or .pt or .pkl or .safetensors, not in '.onnx'"),
    ('sub.pth', [], 'is a folder: name a file'),
    ('out.pth', ['--classes', 'a', 'b', 'c', 'd', 'a'], '--classes names a twice')])
def test_where_out_cannot_go(official, capsys, tmp_path, out, more, sentence):
    (tmp_path / 'sub').mkdir()
    (tmp_path / 'sub.pth').mkdir()
    torch.save(dict(model=official, optimizer={}), tmp_path / 'in.pth')
    before = (tmp_path / 'in.pth').read_bytes()
    assert sentence in fails_with(capsys, tmp_path / 'in.pth', tmp_path / out, *more)
    assert (tmp_path / 'in.pth').read_bytes() == before


def test_class_names_are_counted_where_the_file_has_none(official, capsys, tmp_path):
    torch.save(official, tmp_path / 'in.pth')
    run(tmp_path / 'in.pth', tmp_path / 'ours.pth', '--classes', *'abcde')
    contents = read_checkpoint(tmp_path / 'ours.pth')
    del contents['meta']['dataset_meta']
    torch.save(contents, tmp_path / 'nameless.pth')
    assert '2 class names were given, but the checkpoint has 5 classes' in fails_with(
        capsys, tmp_path / 'nameless.pth', tmp_path / 'out.pth', '--classes', 'a', 'b')
    assert sorted(path.name for path in tmp_path.iterdir()) == ['in.pth', 'nameless.pth', 'ours.pth']


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
    said = capsys.readouterr().out
    assert 'resnet50, for --cfg-options backbone=resnet50' in said and 'left out 1 entry' in said
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


def resnet18() -> dict:
    torch.manual_seed(0)
    return dict(MODELS.build(dict(type='mmdet.ResNet', depth=18)).state_dict())


@pytest.mark.parametrize(('name', 'wrap'), [
    ('torchvision.pth', lambda state: {**state, 'fc.weight': torch.ones(3)}),
    ('detco.pth.tar', lambda state: dict(epoch=200, arch='resnet18', state_dict={
        **{f'module.encoder_q.{key}': value for key, value in state.items()}, 'module.queue': torch.ones(3)})),
    ('mmpretrain.pth', lambda state: dict(meta={}, state_dict={
        **{f'backbone.{key}': value for key, value in state.items()}, 'head.fc.weight': torch.ones(3)})),
])
@pytest.mark.parametrize('suffix', ['.pth', '.safetensors'])
def test_a_backbone_of_each_kind_is_loaded_by_init_cfg(capsys, tmp_path, name, wrap, suffix):
    if suffix == '.safetensors':
        pytest.importorskip('safetensors')
    state = resnet18()
    torch.save(wrap(state), tmp_path / name)
    run(tmp_path / name, tmp_path / f'out{suffix}')
    said = capsys.readouterr().out
    assert 'backbone=resnet18' in said and 'left out 1 entry' in said
    backbone = MODELS.build(dict(type='mmdet.ResNet', depth=18, init_cfg=dict(
        type='Pretrained', checkpoint=str(tmp_path / f'out{suffix}'))))
    backbone.init_weights()
    assert all(torch.equal(value, state[key]) for key, value in backbone.state_dict().items())


def test_safetensors_in_and_out_and_in(official, tmp_path):
    library = pytest.importorskip('safetensors.torch')
    library.save_file(dict(official), tmp_path / 'in.safetensors')
    run(tmp_path / 'in.safetensors', tmp_path / 'out.safetensors', '--classes', 'a', 'b', 'c', 'd', 'e')
    run(tmp_path / 'out.safetensors', tmp_path / 'plain.pth')
    one, other = read_checkpoint(tmp_path / 'out.safetensors'), read_checkpoint(tmp_path / 'plain.pth')
    assert one['state_dict'].keys() == other['state_dict'].keys()
    assert all(torch.equal(value, other['state_dict'][key]) for key, value in one['state_dict'].items())
    for contents in (one, other):
        metadata = Metadata.of(contents, 'x')
        assert metadata.classes == ('a', 'b', 'c', 'd', 'e')
        MODELS.build(metadata.config().model()).load_state_dict(contents['state_dict'])


def test_mmdets_zoo(official, tmp_path):
    """As mmdet 2.x wrote it: our names, class names in upper case, and a config that is code and is dropped."""
    run_state = from_official(official)
    meta = dict(CLASSES=('a', 'b', 'c', 'd', 'e'), config='raise SystemExit', mmdet_version='2.3.0')
    torch.save(dict(meta=meta, state_dict=run_state, optimizer={}), tmp_path / 'zoo.pth')
    run(tmp_path / 'zoo.pth', tmp_path / 'out.pth')
    contents = read_checkpoint(tmp_path / 'out.pth')
    metadata = Metadata.of(contents, 'x')
    assert metadata.classes == ('a', 'b', 'c', 'd', 'e')
    MODELS.build(metadata.config().model()).load_state_dict(run_state)


@pytest.mark.parametrize('name', ['evil.pth', 'evil.pkl', 'evil.pth.tar', 'evil.safetensors'])
def test_a_malicious_pickle_is_refused_whatever_its_name(capsys, tmp_path, name):
    if name.endswith('.safetensors'):
        pytest.importorskip('safetensors')
    contents = dict(state_dict={'conv1.weight': np.ones(2)}, x=Marker(tmp_path / 'ran'))
    (tmp_path / name).write_bytes(pickle.dumps(contents))
    message = fails_with(capsys, tmp_path / name, tmp_path / 'out.pth')
    assert 'more than data' in message or 'is not a checkpoint, or is damaged' in message
    torch.save(dict(state_dict={'conv1.weight': torch.ones(2)}, x=Marker(tmp_path / 'ran')), tmp_path / name)
    fails_with(capsys, tmp_path / name, tmp_path / 'out.pth')
    assert not (tmp_path / 'ran').exists() and not (tmp_path / 'out.pth').exists()


def test_options_that_do_not_fit(official, capsys, tmp_path):
    torch.save(resnet18(), tmp_path / 'resnet.pth')
    assert '--hub is for detectors' in fails_with(capsys, tmp_path / 'resnet.pth', '--hub', tmp_path / 'hub')
    torch.save(from_official(official), tmp_path / 'ours.pth')
    assert 'leave out --to-official' in fails_with(capsys, tmp_path / 'ours.pth', '--to-official', '--hub',
                                                   tmp_path / 'hub')
    assert not (tmp_path / 'hub').exists()


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
