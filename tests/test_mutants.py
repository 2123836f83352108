from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.kit import ROOT
from tests.mutants import PACKAGE, Mutant, files_of, judge, mutants_of, room_tests, sample, table

FUNCTION = '''\
def f(x: int = 3, é: str = 'é') -> list:
    """1 < 2."""
    if x and not é == 'é':
        x -= 1
        raise ValueError(f'{x + 1}')
    return sorted([x, -x][1:], reverse=True) if 0 <= x < 9 else []
'''
CLIP = """\
def clip(x):
    if x < 0:
        x = 0
    return x + 1
"""


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding='utf-8')
    subprocess.run(['git', 'init', '--quiet', str(root)], check=True)
    return root.resolve()


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv('PYTEST_DISABLE_PLUGIN_AUTOLOAD', '1')  # they take seconds
    return tree(tmp_path / 'toy', {
        f'{PACKAGE}/__init__.py': '', f'{PACKAGE}/ops/__init__.py': '', f'{PACKAGE}/ops/clip.py': CLIP,
        'tests/ops/test_clip.py': f'from {PACKAGE}.ops.clip import clip\n\n\n'
                                  'def test_clip():\n    assert clip(2) == 3\n    assert clip(-2) == 1\n'})


def test_all_mutants_of_a_function(tmp_path: Path) -> None:
    file = f'{PACKAGE}/f.py'
    found = mutants_of(tree(tmp_path, {file: FUNCTION}), file)
    assert sorted((one.line, one.old, one.new) for one in found) == sorted([
        (1, '3', '4'),
        (3, "x and not é == 'é'", "x or not é == 'é'"), (3, "x and not é == 'é'", "not (x and (not é == 'é'))"),
        (3, "not é == 'é'", "é == 'é'"), (3, "é == 'é'", "é != 'é'"),
        (4, 'x -= 1', 'x += 1'), (4, 'x -= 1', 'pass'), (4, '1', '2'),
        (5, "raise ValueError(f'{x + 1}')", 'pass'),
        (6, 'sorted([x, -x][1:], reverse=True)', 'sorted([x, -x][1:])'), (6, '-x', 'x'), (6, '1:', ':'), (6, '1', '2'),
        (6, 'True', 'False'), (6, '0 <= x < 9', '0 < x < 9'), (6, '0 <= x < 9', '0 > x < 9'),
        (6, '0 <= x < 9', '0 <= x <= 9'), (6, '0 <= x < 9', '0 <= x >= 9'), (6, '0', '1'), (6, '9', '10')])
    equal = next(one for one in found if one.new == "é != 'é'")
    assert equal.applied(FUNCTION.encode()).decode() == FUNCTION.replace('==', '!=')


def test_a_test_kills_one_and_another_survives(toy: Path) -> None:
    mutants = mutants_of(toy, f'{PACKAGE}/ops/clip.py')
    chosen = [one for one in mutants if one.new in ('x <= 0', 'x - 1')]
    assert table(list(judge(toy, chosen))) == [
        '| room | mutants | killed | survived |', '|---|---|---|---|', '| `ops` | 2 | 1 | 1 |', '',
        f'{PACKAGE}/ops/clip.py:2 x < 0 -> x <= 0']
    assert (toy / PACKAGE / 'ops/clip.py').read_text() == CLIP


def test_tests_that_fail_without_a_change(toy: Path) -> None:
    (toy / PACKAGE / 'ops/clip.py').write_text(CLIP.replace('+ 1', '+ 2'))
    with pytest.raises(SystemExit, match='error: tests/ops fails without any change'):
        list(judge(toy, mutants_of(toy, f'{PACKAGE}/ops/clip.py')))


def test_the_sample_is_in_proportion_to_the_rooms() -> None:
    mutants = [Mutant(f'{PACKAGE}/{room}/x.py', line, 0, '1', '2')
               for room, number in (('cli', 60), ('ops', 30), ('models/ddq', 10)) for line in range(number)]
    chosen = sample(mutants, 10, seed=0)
    assert sorted(one.room for one in chosen) == ['cli'] * 6 + ['models/ddq'] + ['ops'] * 3
    assert chosen == sample(mutants, 10, seed=0) != sample(mutants, 10, seed=1)
    assert sorted(sample(mutants, 1000, seed=0)) == sorted(mutants)


def test_every_file_has_tests() -> None:
    files = files_of(ROOT, '.')
    assert len(files) == len(set(files)) > 200
    tests = {test for file in files for test in room_tests(ROOT, Mutant(file, 1, 0, '', '').room)}
    assert [test for test in sorted(tests) if not (ROOT / test).exists()] == []
    assert files_of(ROOT, 'terminal') == files_of(ROOT, f'{PACKAGE}/terminal.py') == [f'{PACKAGE}/terminal.py']
    assert f'{PACKAGE}/models/ddq/__init__.py' in files_of(ROOT, 'models')


@pytest.mark.parametrize('name', ['modles', 'tests/mutants.py'])
def test_an_unknown_room(name: str) -> None:
    with pytest.raises(SystemExit, match=f"error: '{name}' is no room and no file of {PACKAGE}"):
        files_of(ROOT, name)
