"""Data that is broken, messy or made to harm: train, doctor and stages end in one sentence, or use what is whole."""
from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from sparse_rcnn_mm.cli.doctor import main as doctor
from tests.kit.hostile_folders import HOSTILE, Case
from tests.own_data.test_config import FINETUNE, TINY

Tool = Callable[..., int]
pytestmark = pytest.mark.timeout(120)
REFUSED = [pytest.param(case, id=case.name) for case in HOSTILE if case.sentence]
USED = [pytest.param(case, id=case.name) for case in HOSTILE if not case.sentence]
# Those whose images differ: name -> what stages says, '' if it draws them.
PICTURES = {
    'an image is a pipe': 'is not a regular file', 'an image is a device': 'is not a regular file',
    'an image cut off': 'image file is truncated', 'images of no bytes': 'cannot identify image file',
    'images that are PostScript': 'cannot identify image file', 'an image of 4 gigapixels': 'more than 179 million',
    'an image of 2 billion rows': 'more than 179 million', '16 bits': '', 'CMYK': '', 'palette': '', 'transparent': '',
    'one pixel': '', 'narrow': '', 'names that harm': '', 'names that are no text': ''}
TWO_STEPS = ['--images', '2', '--iterations', '2', '--minutes', '0.05', *TINY]


def case(name: str) -> Case:
    return next(one for one in HOSTILE if one.name == name)


def outcome(capsys: pytest.CaptureFixture, folder: Path) -> str:
    """The sentence that a tool ended with, '' for none. Nothing that the data holds was run or reached the terminal."""
    out, err = capsys.readouterr()
    assert 'Traceback' not in out + err and '\x1b[31m' not in out + err
    assert not any('ran' in files for _, _, files in os.walk(folder))
    errors = [line for line in err.splitlines() if line.startswith('error: ')]
    assert len(errors) <= 1
    return ''.join(errors)


@pytest.mark.parametrize('hostile', REFUSED)
def test_training_is_refused_before_the_first_step(hostile: Case, tool: Tool, tmp_path: Path,
                                                   capsys: pytest.CaptureFixture) -> None:
    hostile.write(tmp_path / 'mine')
    assert tool('train', FINETUNE, '--data', 'mine', '--work-dir', 'work', *TINY) == 1
    said = outcome(capsys, tmp_path)
    assert hostile.sentence in said and len(said) < 1000
    assert not list(tmp_path.glob('work/*.pth')) and not list(tmp_path.glob('work/*/vis_data/scalars.json'))


@pytest.mark.slow
@pytest.mark.parametrize('hostile', USED)
def test_training_uses_what_is_whole(hostile: Case, tool: Tool, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    hostile.write(tmp_path / 'mine')
    assert tool('train', FINETUNE, '--data', 'mine', '--work-dir', 'work', *TINY, 'train_cfg.max_epochs=1') == 0
    assert not outcome(capsys, tmp_path)
    assert (tmp_path / 'work/inference.pth').is_file()


def examined(hostile: Case, folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict:
    """The doctor's finding."""
    monkeypatch.chdir(folder)
    hostile.write(folder / 'mine')
    assert doctor(['--data', 'mine', '--config', FINETUNE, '--out', 'out', *TWO_STEPS]) == 1  # two steps learn nothing
    return json.loads((folder / 'out/doctor.json').read_text())


@pytest.mark.parametrize('hostile', REFUSED)
def test_the_doctor_says_why_training_does_not_start(hostile: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                     capsys: pytest.CaptureFixture) -> None:
    said = examined(hostile, tmp_path, monkeypatch)['conclusion']
    assert not outcome(capsys, tmp_path)
    assert said.startswith('training does not start: ') and hostile.sentence in said and len(said) < 1000


@pytest.mark.slow
@pytest.mark.parametrize('hostile', USED)
def test_the_doctor_learns_what_is_whole(hostile: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                         capsys: pytest.CaptureFixture) -> None:
    found = examined(hostile, tmp_path, monkeypatch)['measured']
    assert not outcome(capsys, tmp_path)
    assert not found['stopped'] and found['overfit']['losses']


@pytest.mark.parametrize('name', PICTURES)
def test_stages_of_images(name: str, tool: Tool, small_checkpoint: Path, tmp_path: Path,
                          capsys: pytest.CaptureFixture) -> None:
    case(name).write(tmp_path / 'mine')
    image = max(os.listdir(tmp_path / 'mine/train')) if 'no text' in name else min(os.listdir(tmp_path / 'mine/train'))
    status = tool('visualize_stages', tmp_path / 'mine/train' / image, '--model', small_checkpoint, '--score-thr', '0',
                  '--side', '60')
    said = outcome(capsys, tmp_path)
    made = sorted(path.suffix for path in tmp_path.glob('stages/*'))
    if PICTURES[name]:
        assert PICTURES[name] in said and status == 1 and not made
    else:
        assert not said and status == 0 and made == ['.gif', '.png']


@pytest.mark.parametrize('name', ['', 'train.json', 'pipe.png', 'self', 'loop/train', 'gone.png', 'disk/zero'])
def test_stages_of_what_is_no_image(name: str, tool: Tool, small_checkpoint: Path, tmp_path: Path,
                                    capsys: pytest.CaptureFixture) -> None:
    case('links, pipes and loops').write(tmp_path / 'links')
    assert tool('visualize_stages', tmp_path / 'links' / name, '--model', small_checkpoint) == 1
    assert outcome(capsys, tmp_path).startswith('error: ')
