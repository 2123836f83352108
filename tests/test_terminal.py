"""Nothing from a file reaches the terminal as a character that the terminal obeys."""
from __future__ import annotations

import ast
import io
import itertools
import json
import logging
import re
import shlex
import subprocess
import sys
import unicodedata
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from sparse_rcnn_mm import terminal
from sparse_rcnn_mm.cli.parser import Parser
from sparse_rcnn_mm.downloads import Progress
from sparse_rcnn_mm.errors import UserError, one_sentence
from sparse_rcnn_mm.terminal import one_line, say, shell_word, show, visible

PACKAGE = Path(terminal.__file__).parent
EVIL = ['\x1b[31mred', '\x1b]0;title\x07', '\rready', 'gnp\u202etxe', '\u2066a\u2069', '\x9b31m', '\ud800', 'a\x00b',
        '\u2028line', 'bell\x07', '\x7f', '\u200erl', '\ufeff', 'tag\U000e0041']
NAMES = st.one_of(st.sampled_from(EVIL), st.text(st.characters(), max_size=30))
AS_THEY_ARE = ['Straße', '信号灯', 'привет', 'سلام', '👩\u200d🔬', 'می\u200cخواهم', r'C:\x1b', 'a b', '\u3000']  # noqa: RUF001


def obeyed(text: str, keep: str = '\n\t') -> list[str]:
    """The characters that should not be there, by a second rule: those that Python's `repr` escapes."""
    return [c for c in text if not c.isprintable() and c not in keep + '\u200c\u200d'
            and unicodedata.category(c) not in ('Zs', 'Co', 'Cn')]


@given(NAMES)
def test_visible(name: str) -> None:
    assert not obeyed(visible(name)) and not obeyed(one_line(name), keep='')
    assert visible(visible(name)) == visible(name)
    visible(name).encode()  # no halves of surrogate pairs


@pytest.mark.parametrize('name', AS_THEY_ARE)
def test_text_of_all_languages_stays(name: str) -> None:
    assert visible(name) == one_line(name) == name


def test_the_escapes() -> None:
    assert visible('\x1b[31m\u202e\ud800\r\x00\x9b\U000e0041') == r'\x1b[31m\u202e\ud800\r\x00\x9b\U000e0041'
    assert visible('a\nb\tc') == 'a\nb\tc'
    assert one_line('a\nb\tc') == r'a\nb\tc'


def logged(name: str) -> None:
    logger = logging.Logger('test')
    handler = logging.StreamHandler(sys.stderr)
    logger.addHandler(handler)
    logger.warning('class %s', name)
    logger.warning(f'class {name}')
    try:
        raise ValueError(name)
    except ValueError:
        logger.exception('a broken %s', name)


def warned(name: str) -> None:
    sys.stderr.write(warnings.formatwarning(name, UserWarning, 'file.py', 1, ''))


def ended(name: str) -> None:
    with pytest.raises(SystemExit), one_sentence():
        raise UserError(f'the class {name} is missing')


def refused(name: str) -> None:
    with pytest.raises(SystemExit):
        Parser(prog='x').parse_args([f'--{name}'])


def uncaught(name: str) -> None:
    try:
        raise ValueError(name)
    except ValueError as error:
        sys.excepthook(type(error), error, error.__traceback__)


def progressed(name: str) -> None:
    Progress(name, 10).close()


WAYS_OUT: list[Callable[[str], None]] = [say, show, logged, warned, ended, refused, uncaught, progressed,
                                         terminal.complain]


@pytest.fixture
def guarded(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """`guard` as in a command, undone after the test."""
    factory = logging.getLogRecordFactory()
    monkeypatch.setattr(warnings, 'formatwarning', warnings.formatwarning)
    monkeypatch.setattr(sys, 'excepthook', sys.excepthook)
    terminal.guard()
    yield
    logging.setLogRecordFactory(factory)


@pytest.mark.usefixtures('guarded')
@pytest.mark.parametrize('way', WAYS_OUT, ids=lambda way: way.__name__)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40, deadline=None)
@given(name=NAMES)
def test_every_way_out(way: Callable[[str], None], name: str, capsys: pytest.CaptureFixture) -> None:
    way(name)
    out, err = capsys.readouterr()
    assert out + err
    assert not obeyed(out + err)


def test_a_name_cannot_be_a_line_of_its_own(capsys: pytest.CaptureFixture) -> None:
    ended('a\nerror: all is well')
    assert capsys.readouterr().err == 'error: the class a\\nerror: all is well is missing\n'


def test_progress_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    stream.isatty = lambda: True  # type: ignore[method-assign]
    monkeypatch.setattr(sys, 'stderr', stream)
    Progress('\x1b[2Jx', 10).close()
    assert stream.getvalue().startswith('\r\\x1b[2Jx: 0.0% of')
    assert stream.getvalue().endswith('\n')


def test_a_terminal_without_these_letters(monkeypatch: pytest.MonkeyPatch) -> None:
    buffer = io.BytesIO()
    monkeypatch.setattr(sys, 'stdout', io.TextIOWrapper(buffer, encoding='ascii'))
    show('Straße 信')
    assert buffer.getvalue() == b'Stra\\xdfe \\u4fe1\n'


def test_nothing_else_writes_to_the_terminal() -> None:
    """`print` and `sys.stderr.write` are used in terminal.py only, and progress bars are given visible text."""
    found = []
    for path in PACKAGE.rglob('*.py'):
        if path.name == 'terminal.py' or '.mim' in path.parts:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            call = ast.unparse(node) if isinstance(node, ast.Call) else ''
            if call.startswith(('print(', 'sys.stdout.write', 'sys.stderr.write')) or (
                    call.startswith(('tqdm.write(', 'bar.write(')) and 'one_line(' not in call
                    and not isinstance(node.args[0], ast.Constant)):
                found.append(f'{path.relative_to(PACKAGE)}: {call}')
    assert not found


@given(NAMES)
def test_a_word_of_a_shell(name: str) -> None:
    assert shlex.split(shell_word(name, 'FILE')) == [name if one_line(name) == name else 'FILE']


def parts_of_text(node: ast.AST) -> list[ast.AST]:
    """Constants and values that an f-string, or a sum of texts, is made of."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return parts_of_text(node.left) + (parts_of_text(node.right) or [node.right])
    if isinstance(node, ast.JoinedStr):
        return [part.value if isinstance(part, ast.FormattedValue) else part for part in node.values]
    return []


def suggested_commands() -> Iterator[tuple[str, str]]:
    """File and expression of every value that a message puts into a command line of ours."""
    command = re.compile(r'(sparse-rcnn \w+|tools/\w+\.py|--cfg-options) [^;:]*$')
    for path in PACKAGE.rglob('*.py'):
        for node in ast.walk(ast.parse(path.read_text())):
            for before, value in itertools.pairwise(parts_of_text(node)):
                if isinstance(before, ast.Constant) and command.search(str(before.value)):
                    yield path.name, ast.unparse(value)


def test_suggested_commands_can_be_pasted() -> None:
    """Names from outside are quoted for a shell in every command that a message suggests."""
    found = [(file, value) for file, value in set(suggested_commands())
             if not value.startswith(('shell_word(', '_as_option(', 'learning_rate_options('))]
    assert found == [('weights.py', "text.removesuffix('.pth')")]  # one of the authors' names
    assert len(list(suggested_commands())) >= 4


def evil_data(folder: Path) -> Path:
    """COCO data whose file names, class names and keys are hostile."""
    images = [f'{name.translate({0: None, 0xd800: None}) or "x"}{i}.png' for i, name in enumerate(EVIL)]
    for name in images:
        Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(folder / name)
    (folder / images[1]).write_bytes(b'no image')
    (folder / '\x1b[5mnotes.txt').write_text('x')
    coco = {'images': [{'id': i, 'file_name': name, 'width': 30, 'height': 20} for i, name in enumerate(images)],
            'categories': [{'id': i, 'name': f'{"".join(c for c in name if unicodedata.category(c) == "Cf")}{i}'}
                           for i, name in enumerate(EVIL)],
            'annotations': [{'id': i, 'image_id': i, 'category_id': i, 'bbox': [1, 1, 50, 5], 'area': 25, 'iscrowd': 0,
                             '\x1b[31mkey': 1} for i in range(len(EVIL))]}
    (folder / 'a.json').write_text(json.dumps(coco))
    return folder


def test_inspect_shows_hostile_data(tool: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / 'data').mkdir()
    assert tool('inspect_dataset', evil_data(tmp_path / 'data'), '--out', tmp_path / 'out', '--pictures', '2') == 1
    out, err = capsys.readouterr()
    assert r'\x1b' in out and r'\u202e' in out
    assert not obeyed(out + err)
    assert not obeyed((tmp_path / 'out' / 'inspection.txt').read_text(encoding='utf-8'))


def test_infer_shows_hostile_names(tool: Callable[..., int], small_checkpoint: Path, tmp_path: Path,
                                   capfd: pytest.CaptureFixture) -> None:
    (tmp_path / 'data').mkdir()
    assert tool('infer', evil_data(tmp_path / 'data'), '--model', small_checkpoint) == 1
    out, err = capfd.readouterr()
    assert r'not read: \x1b[5mnotes.txt, a.json' in out and r'\x1b]0;title\x07' in err
    assert not obeyed(out) and not obeyed(err, keep='\n\t\r')  # the progress bar goes back to the start of its line


def test_a_traceback_in_a_command_is_visible_too() -> None:
    code = ('from sparse_rcnn_mm.errors import one_sentence\n'
            'with one_sentence():\n  raise RuntimeError("\\x1b[31m\\ud800")')
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert r'RuntimeError: \x1b[31m\ud800' in done.stderr
    assert not obeyed(done.stderr)
    assert done.returncode == 1
