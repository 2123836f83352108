"""Sentences for errors that a user can act on, and what they suggest."""
from __future__ import annotations

import subprocess
import sys

import pytest
from mmengine.registry import DefaultScope, Registry

from sparse_rcnn_mm.cli.parser import Parser
from sparse_rcnn_mm.engine import add_common_arguments
from sparse_rcnn_mm.engine.settings import all_settings, settings_like
from sparse_rcnn_mm.errors import UserError, did_you_mean, in_short, one_sentence, refusing
from sparse_rcnn_mm.registry import MODELS
from tests.kit import ROOT


def said(capsys: pytest.CaptureFixture, **part: object) -> str:
    """The sentence that building a part of a model ends in."""
    with pytest.raises(SystemExit), one_sentence(), DefaultScope.overwrite_default_scope('sparse_rcnn_mm'):
        MODELS.build(part)
    return capsys.readouterr().err


@pytest.mark.parametrize(('name', 'known', 'suggestion'), [
    ('num_class', ['in_channels', 'num_classes'], " (did you mean 'num_classes'?)"),
    ('adamw', ['SGD', 'AdamW'], " (did you mean 'AdamW'?)"),
    ('zebra', ['in_channels', 'num_classes'], ''),
    ('x', [], ''),
])
def test_did_you_mean(name: str, known: list[str], suggestion: str) -> None:
    assert did_you_mean(name, known) == suggestion


def test_an_unknown_argument(capsys: pytest.CaptureFixture) -> None:
    assert said(capsys, type='DynamicConv', in_channel=3) == (
        "error: DynamicConv has no argument 'in_channel' (did you mean 'in_channels'?): correct it in the config\n")


def test_the_argument_of_a_parent(capsys: pytest.CaptureFixture) -> None:
    """Python names the class whose __init__ it is, which may not be the one in the config."""
    registry = Registry('part')

    class Parent:
        def __init__(self, *, width: int = 1) -> None:
            pass

    @registry.register_module()
    class Child(Parent):
        pass

    with pytest.raises(SystemExit), one_sentence():
        registry.build({'type': 'Child', 'widht': 2})
    assert "has no argument 'widht' (did you mean 'width'?)" in capsys.readouterr().err


@pytest.mark.parametrize(('kind', 'suggestion'), [
    ('SparseRCN', 'SparseRCNN'),  # of this package
    ('RestNet', 'ResNet'),  # of a parent's registry
])
def test_an_unknown_name(kind: str, suggestion: str, capsys: pytest.CaptureFixture) -> None:
    message = said(capsys, type=kind)
    assert message == (f"error: the config names the model '{kind}', which does not exist (did you mean "
                       f"'{suggestion}'?): check it, or import its module by custom_imports\n")


def test_an_inner_part_is_looked_up_where_it_would_be(capsys: pytest.CaptureFixture) -> None:
    """The assigner is built while the criterion is: the suggestion comes from the registry of tasks."""
    message = said(capsys, type='SetCriterion', assigner=dict(type='HungarianAsigner', match_costs=[]),
                   loss_cls={}, loss_bbox={}, loss_iou={})
    assert "'HungarianAsigner', which does not exist (did you mean 'HungarianAssigner'?)" in message


def test_other_errors_pass() -> None:
    for error in (TypeError('unsupported operand'), KeyError('x'), RuntimeError('boom')):
        with pytest.raises(type(error)), one_sentence():
            raise error
    with pytest.raises(SystemExit), one_sentence():
        raise UserError('x')


CONFIG = {'optim_wrapper': {'optimizer': {'type': 'AdamW', 'lr': 1}, 'clip_grad': {'max_norm': 1}},
          'param_scheduler': [{'type': 'LinearLR', 'end': 5}, {'begin': 5, 'end': 9}],
          'model': {'roi_head': {'num_stages': 6}, 'scales': [1, 2]}}


@pytest.mark.parametrize(('unknown', 'suggestion'), [
    ('lr', '; did you mean optim_wrapper.optimizer.lr?'),
    ('optimizer.lr', '; did you mean optim_wrapper.optimizer.lr?'),
    ('num_stage', '; did you mean model.roi_head.num_stages?'),
    ('end', '; did you mean param_scheduler.0.end or param_scheduler.1.end?'),
    ('type', ''),
    ('zebra', ''),
])
def test_settings_of_the_same_or_a_like_end(unknown: str, suggestion: str) -> None:
    assert settings_like(unknown, CONFIG) == suggestion


def test_all_settings() -> None:
    assert list(all_settings(CONFIG)) == [
        'optim_wrapper.optimizer.type', 'optim_wrapper.optimizer.lr', 'optim_wrapper.clip_grad.max_norm',
        'param_scheduler.0.type', 'param_scheduler.0.end', 'param_scheduler.1.begin', 'param_scheduler.1.end',
        'model.roi_head.num_stages', 'model.scales']


@pytest.mark.parametrize(('text', 'value'), [
    ("x=('traffic light','a,b')", ('traffic light', 'a,b')), ('x=["3"]', ['3']), ('x=[1,2.5]', [1, 2.5]), ('x=[]', []),
    ('x=[a,b]', ['a', 'b']), ('x=1,2', [1, 2]), ('x=(1)', (1,)), ('x=1e-4', 1e-4), ('x=None', None), ('x=a=b', 'a=b'),
])
def test_values_of_settings(text: str, value: object) -> None:
    parser = Parser()
    add_common_arguments(parser)
    assert parser.parse_args(['--cfg-options', text]).cfg_options == {'x': value}


@pytest.mark.parametrize(('text', 'sentence'), [
    ('x', "argument --cfg-options: 'x' is not KEY=VALUE"),
    ('x=[1,(2]', "argument --cfg-options: 'x=[1,(2]': Imbalanced brackets exist in 1,(2"),
])
def test_malformed_settings(text: str, sentence: str, capsys: pytest.CaptureFixture) -> None:
    parser = Parser()
    add_common_arguments(parser)
    with pytest.raises(SystemExit):
        parser.parse_args(['--cfg-options', text])
    assert sentence in capsys.readouterr().err


def test_any_error_of_what_a_stranger_made_becomes_one_sentence() -> None:
    def say(error: str) -> str:
        return f'x.pth is damaged ({error}): fetch it again'

    with pytest.raises(UserError, match=r'^x.pth is damaged \(KeyError: .a b.\): fetch it again$'), refusing(say):
        raise KeyError('a b')
    with pytest.raises(UserError, match='^its own$'), refusing(say):
        raise UserError('its own')
    with pytest.raises(KeyboardInterrupt), refusing(say):
        raise KeyboardInterrupt
    assert in_short(ValueError('one\n  two\t three')) == 'one two three' and in_short(ValueError('abcd'), 3) == 'abc'


def test_a_program_does_not_look_for_garbage_while_it_exits() -> None:
    """With PyTorch loaded that takes half a second."""
    code = """
import sparse_rcnn_mm.errors
class Garbage:
    def __del__(self):
        print("collected")
Garbage.itself = Garbage()
with sparse_rcnn_mm.errors.one_sentence():
    print("done")
"""
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.splitlines() == ['done']
