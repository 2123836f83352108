"""Data sets in every form, damaged at random: they are read, or refused in a sentence.

`make fuzz MINUTES=60` goes on for an hour.
"""
from __future__ import annotations

import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from sparse_rcnn_mm.errors import UserError
from sparse_rcnn_mm.own_data.inspection import inspect_data
from sparse_rcnn_mm.own_data.preparing import check_left, prepare
from sparse_rcnn_mm.own_data.reading import read_data
from tests.kit import data_sets
from tests.kit.data_sets import FORMS

EXAMPLES = int(os.environ.get('FUZZ_EXAMPLES', 12))
TOKENS = [
    b'', b'\0', b'\xff\xfe', b'\xef\xbb\xbf', b'NaN', b'Infinity', b'-1', b'1e999', b'9' * 400, b'null', b'[]', b'{}',
    b'""', b'true', b'"\\ud800"', b'\xe9', b'\xba\xec', b'&a;', b'*a', b'<object>', b'/', b'../', b'..\\', b',', b'\n',
    b'[' * 3000, b'x' * 5000, b'names:', b'"id": 1,', b'0 .5 .5 .2 .2\n', b'%', b'\r', b'\x1b[31m', b'-', b':', b'1.5']
VALUES = st.sampled_from([
    None, True, 0, -1, 0.5, 2 ** 70, 1e300, float('nan'), float('inf'), '', '1', 'a', '\0', '\ud800', [], {}, [1],
    [None], [[1, 2]], {'counts': [1, 2], 'size': [3, 4]}, {'counts': 'x', 'size': [9, 9]}])


def train_on(root: Path, out: Path) -> None:
    raw = read_data(root)
    inspect_data(raw, num_proposals=10)
    data = prepare(raw)
    check_left(data)
    for path in data.write(out).values():
        assert all(min(box['bbox'][2:]) > 0 for box in json.loads(Path(path).read_text())['annotations'])


def damage_bytes(draw: Any, path: Path) -> None:
    content = path.read_bytes()
    start = draw(st.integers(0, len(content)))
    length = draw(st.sampled_from([0, 0, 1, 3, 20, len(content)]))
    path.write_bytes(content[:start] + draw(st.sampled_from(TOKENS)) + content[start + length:])


def damage_value(draw: Any, path: Path) -> None:
    """Another value in the place of any one in a JSON file."""
    content = json.loads(path.read_bytes())
    part, key = {'': content}, ''
    while isinstance(part[key], (dict, list)) and part[key] and draw(st.integers(0, 5)):
        part = part[key]
        key = draw(st.sampled_from(sorted(part) if isinstance(part, dict) else range(len(part))))
    part[key] = draw(VALUES)
    path.write_text(json.dumps(content))


@pytest.fixture(scope='module', params=FORMS)
def sound(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An undamaged data set of small pictures."""
    folder = tmp_path_factory.mktemp('sound')
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(data_sets, 'TRUTH', {stem: (split, 40, 30, [(name, 1.5, 2, 30, 20.25) for name, *_ in boxes])
                                           for stem, (split, _, _, boxes) in data_sets.TRUTH.items()})
        request.param(folder)
    train_on(folder, folder.parent / 'sound_out')
    return folder


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), database=None,
          derandomize='FUZZ_EXAMPLES' not in os.environ, phases=[Phase.generate])
@given(data=st.data())
def test_only_sentences_escape(sound: Path, data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder, 'mine')
        shutil.copytree(sound, root)
        texts = [path for path in sorted(root.rglob('*')) if path.is_file() and path.suffix != '.png']
        for _ in range(data.draw(st.integers(1, 3))):
            path = data.draw(st.sampled_from(texts))
            try:
                change = damage_value if path.suffix == '.json' and data.draw(st.booleans()) else damage_bytes
                change(data.draw, path)
            except (ValueError, RecursionError):  # damaged before: no JSON any more
                damage_bytes(data.draw, path)
        try:
            train_on(root, Path(folder, 'out'))
        except UserError as error:
            assert str(error) and '\n' not in str(error)  # noqa: PT017 (any other exception is a failure, too)
