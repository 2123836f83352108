"""Loading is strict, says what does not fit, and loads what fits only when asked to."""
import pytest
import torch
from torch import nn

from sparse_rcnn_mm.checkpoints import load_checkpoint, load_matching
from sparse_rcnn_mm.checkpoints.loading import LoadReport
from sparse_rcnn_mm.errors import UserError


class Small(nn.Module):

    def __init__(self, num_classes: int, num_proposals: int = 4) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(2)
        self.fc_cls = nn.Linear(3, num_classes)
        self.rpn_head = nn.Module()
        self.rpn_head.init_proposal_bboxes = nn.Embedding(num_proposals, 4)


def saved(tmp_path, model, **changes):
    path = tmp_path / 'a.pth'
    torch.save(dict(state_dict={**model.state_dict(), **changes}, meta=dict(CLASSES=('x',))), path)
    return path


def test_same_shapes_load_all(tmp_path):
    source, target = Small(3), Small(3)
    path = saved(tmp_path, source)
    checkpoint, report = load_checkpoint(target, path)
    assert report.complete and len(report.loaded) == len(source.state_dict())
    assert checkpoint['meta'] == dict(CLASSES=('x',))
    for name, value in target.state_dict().items():
        assert torch.equal(value, source.state_dict()[name])


def test_other_classes_are_refused_in_one_sentence_and_change_nothing(tmp_path):
    path = saved(tmp_path, Small(3, num_proposals=6))
    target = Small(5)
    before = {name: value.clone() for name, value in target.state_dict().items()}
    with pytest.raises(UserError) as caught:
        load_checkpoint(target, path)
    message = str(caught.value)
    assert '\n' not in message
    assert 'fc_cls.weight is (3, 3) instead of (5, 3)' in message
    assert 'num_classes = 3, num_proposals = 6' in message and 'load_partial=True' in message
    assert all(torch.equal(value, before[name]) for name, value in target.state_dict().items())


def test_what_fits_loads_when_asked_and_the_rest_is_named(tmp_path):
    source, target = Small(3), Small(5)
    kept = target.fc_cls.bias.clone()
    path = saved(tmp_path, source, extra=torch.zeros(1))
    report = load_checkpoint(target, path, partial=True)[1]
    assert torch.equal(target.rpn_head.init_proposal_bboxes.weight, source.rpn_head.init_proposal_bboxes.weight)
    assert torch.equal(target.fc_cls.bias, kept)
    assert str(report).split('\n') == [
        'loaded 6 entries',
        'left out fc_cls.weight: (3, 3) in the checkpoint, (5, 3) in the model',
        'left out fc_cls.bias: (3,) in the checkpoint, (5,) in the model',
        'left out extra: not in the model',
    ]


def test_missing_entries_are_named():
    state = Small(3).state_dict()
    del state['bn.weight'], state['bn.num_batches_tracked']
    report = load_matching(Small(3), state)
    assert report.missing == ['bn.weight'] and not report.unexpected and not report.reshaped
    assert str(report).endswith('not in the checkpoint, keeps its value: bn.weight')


def test_advice_names_settings_only_where_they_are_known(tmp_path):
    state = Small(3).state_dict()
    del state['bn.weight'], state['bn.bias']
    torch.save(state, tmp_path / 'a.pth')
    with pytest.raises(UserError) as caught:
        load_checkpoint(Small(3), tmp_path / 'a.pth')
    assert str(caught.value).removeprefix(f'{tmp_path}/') == (
        'a.pth does not fit the model: 2 missing (bn.weight; bn.bias); use the config it was trained with, '
        'or in training and testing load only what fits with --cfg-options load_partial=True')


@pytest.mark.parametrize(('most', 'shown'), [(1, '3 missing (a; ...)'), (2, '3 missing (a; b; ...)'),
                                             (3, '3 missing (a; b; c)')])
def test_the_summary_is_short(most, shown):
    report = LoadReport(loaded=[], missing=['a', 'b', 'c'], unexpected=['d'], reshaped={})
    assert report.summary(most) == f'{shown}, 1 unknown to the model (d)'


@pytest.mark.parametrize(('state', 'message'), [
    ({'head.head_series.0.norm1.weight': torch.zeros(1)}, 'convert it first: sparse-rcnn convert'),
    ({'other.weight': torch.zeros(1)}, 'a checkpoint of another model'),
])
def test_checkpoints_of_other_code_are_refused(tmp_path, state, message):
    torch.save(state, tmp_path / 'a.pth')
    with pytest.raises(UserError, match=message):
        load_checkpoint(Small(3), tmp_path / 'a.pth', partial=True)
