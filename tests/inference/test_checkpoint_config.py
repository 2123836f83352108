"""The config inside a checkpoint: what mmengine writes is read as it reads it, and nothing is ever run."""
from __future__ import annotations

from pathlib import Path

import pytest
from mmengine.config import Config

from sparse_rcnn_mm.errors import UserError
from sparse_rcnn_mm.inference.checkpoint_config import check_types, config_of, read_literals
from sparse_rcnn_mm.inference.detector import test_pipeline as pipeline_of

CONFIGS = sorted((Path(__file__).resolve().parents[2] / 'configs').glob('*.py'))


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_text_is_read_as_mmengine_reads_it(path: Path) -> None:
    text = Config.fromfile(path).pretty_text
    by_running = Config.fromstring(text, '.py')
    cfg = config_of({'meta': {'cfg': text}}, 'x.pth')
    assert cfg.to_dict() == by_running.to_dict()
    check_types([cfg.model, pipeline_of(cfg, 'x.pth')], 'x.pth')


def test_literals_of_every_kind() -> None:
    values = read_literals("a = dict(b=-1e-05, c=(1, 'two' 'three'), **{'d.e': None})\n"
                           "f = {'g h': [True, {1, 2}, tuple([3]), list()], 4: b'x'}")
    assert values == {'a': {'b': -1e-05, 'c': (1, 'twothree'), 'd.e': None},
                      'f': {'g h': [True, {1, 2}, (3,), []], 4: b'x'}}


@pytest.mark.parametrize('text', [
    'import os',
    "a = __import__('os').system('touch MARK')",
    "a = open('MARK', 'w')",
    "a = dict(b=[open('MARK', 'w')])",
    "a = dict(open('MARK', 'w'))",
    "a = {**open('MARK', 'w')}",
    "a = f'{open(\"MARK\", \"w\")}'",
    "a = [open('MARK', 'w') for _ in range(1)]",
    "a = (lambda: open('MARK', 'w'))()",
    'a = b',
    'a.b = 1',
    'a = b = 1',
    'dict = 1; a: int = 2',
    'a = 1 if True else 2',
    'if True: a = 1',
    'a = (',
    'a = ' + '[' * 5000 + ']' * 5000,
    'a = {[]: 1}',
    'a = dict(1)',
    'a = dict(**1)',
])
def test_anything_else_is_refused_and_not_run(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match='not plain data'):
        config_of({'meta': {'cfg': text}}, 'x.pth')
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('contents', [{}, {'meta': None}, {'meta': {'cfg': ' '}}, {'meta': {'cfg': 3}}])
def test_without_config_the_message_says_what_to_pass(contents: dict) -> None:
    with pytest.raises(UserError, match='x.pth holds weights without their config.*--config'):
        config_of(contents, 'x.pth')


@pytest.mark.parametrize('kind', ['os.system', 'this', 'mmengine.Config', 'mmengine.config.Config', 'builtins.exec',
                                  'mmdet.os.system', 'sparse_rcnn_mm.errors.UserError'])
def test_only_registered_types_may_be_named(kind: str) -> None:
    with pytest.raises(UserError, match=f'uses {kind}, which is not registered'):
        check_types({'backbone': [dict(type=kind)]}, 'x.pth')


def test_types_of_all_scopes_are_known() -> None:
    check_types([dict(type='ResNet', norm_cfg=dict(type='BN')), dict(type='mmdet.FPN'),
                 dict(type='sparse_rcnn_mm.SparseRCNN')], 'x.pth')
