"""The command `sparse-rcnn`: help at once, commands and configs by name, and processes."""
from __future__ import annotations

import ast
import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

import pytest
import torch

from sparse_rcnn_mm.cli import processes
from sparse_rcnn_mm.cli.commands import COMMANDS, expand_home, run, usage
from sparse_rcnn_mm.config_files import config_from_file, config_names, find_config
from sparse_rcnn_mm.errors import UserError
from sparse_rcnn_mm.versions import __version__
from tests.kit import CONFIGS, ROOT

WITHOUT_STACK = """
import sys
sys.argv[:] = ['sparse-rcnn', '{option}']
from sparse_rcnn_command import main
assert main() == 0
heavy = {{'torch', 'mmengine', 'mmcv', 'mmdet', 'numpy'}} & set(sys.modules)
assert not heavy, heavy
"""


def in_new_process(*command: str, path: str = '', cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, 'PYTHONPATH': f'{path}{os.pathsep}{ROOT}' if path else str(ROOT)}
    return subprocess.run([sys.executable, *command], cwd=cwd, env=environment, capture_output=True, text=True,
                          timeout=120)


def error_of(capsys: pytest.CaptureFixture, *argv: str) -> str:
    """The one line that a command line ends in."""
    with pytest.raises(SystemExit) as caught:
        run(argv)
    lines = capsys.readouterr().err.splitlines()
    assert caught.value.code == 1 and len(lines) == 1 and lines[0].startswith('error: ')
    return lines[0]


@pytest.mark.parametrize(('option', 'said'), [('--help', usage()), ('--version', f'sparse-rcnn {__version__}\n')])
def test_help_and_version_import_nothing_heavy(option: str, said: str) -> None:
    done = in_new_process('-c', WITHOUT_STACK.format(option=option))
    assert (done.stdout, done.stderr) == (said, '')


@pytest.mark.parametrize(('argument', 'expanded'), [
    ('~/x', '/home/me/x'), ('~', '/home/me'), ('--data=~/my photos', '--data=/home/me/my photos'),
    ('train_dataloader.dataset.data_root=~/x', 'train_dataloader.dataset.data_root=/home/me/x'),
    ('key="~/x"', 'key="/home/me/x"'), ('--work-dir=~no_such_user/x', '--work-dir=~no_such_user/x'),
    ('x~', 'x~'), ('a=b=~/x', 'a=b=~/x'), ('./~/x', './~/x'), ('key=[~/x]', 'key=[~/x]')])
def test_home_folders_are_written_out(argument: str, expanded: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('HOME', '/home/me')
    assert expand_home(argument) == expanded


def test_options_take_home_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                   capsys: pytest.CaptureFixture) -> None:
    monkeypatch.setenv('HOME', str(tmp_path))
    monkeypatch.setattr(sys, 'argv', [])
    assert f'there is no folder {tmp_path}/gone' in error_of(capsys, 'inspect', '~/gone')
    assert f'no config file {tmp_path}/x.py' in error_of(capsys, 'train', '~/x.py')
    assert f'{tmp_path}/x.pth' in error_of(capsys, 'infer', str(ROOT / 'README.md'), '--model=~/x.pth')


@pytest.mark.parametrize('name', COMMANDS)
def test_every_command_is_listed_and_has_help(name: str, capsys: pytest.CaptureFixture,
                                              monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, 'argv', [])
    assert f'\n  {name:15}{COMMANDS[name].summary}\n' in usage()
    with pytest.raises(SystemExit) as caught:
        run([*name.split(), '--help'])
    assert caught.value.code == 0
    assert capsys.readouterr().out.startswith(f'usage: sparse-rcnn {name} [-h]')


# What measures for the documentation, and what a shell script calls.
ON_THEIR_OWN = {'_launch', 'benchmark_dataset', 'benchmark_metric', 'check_backbones', 'check_export', 'compare_family',
                'make_large_coco'}


def test_every_script_in_tools_calls_the_main_of_a_command() -> None:
    called = {}
    for path in (ROOT / 'tools').glob('*.py'):
        if path.stem in ON_THEIR_OWN:
            continue
        imports = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)]
        called[path.stem] = [node.module.removeprefix('sparse_rcnn_mm.cli.') for node in imports if node.module and
                             node.module.startswith('sparse_rcnn_mm.cli.')]
    modules = [command.module for command in COMMANDS.values()]
    assert all(len(found) == 1 and found[0] in modules for found in called.values()), called
    without_script = ['compare_curves', 'crowd_convert', 'crowd_score', 'doctor', 'download', 'download_voc']
    assert sorted(modules) == sorted([*(found[0] for found in called.values()), *without_script])


def test_without_a_command_or_with_an_unknown_one(capsys: pytest.CaptureFixture) -> None:
    assert run([]) == 2
    assert capsys.readouterr().out == usage()
    assert error_of(capsys, 'trian', 'x') == ("error: there is no command 'trian' (did you mean 'train'?): "
                                              'sparse-rcnn --help lists them')


def test_ctrl_c_ends_without_a_traceback(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    def interrupted(argv: object) -> NoReturn:
        raise KeyboardInterrupt

    monkeypatch.setattr(sys, 'argv', [])
    monkeypatch.setattr(import_module('sparse_rcnn_mm.cli.digits'), 'main', interrupted)
    assert run(['digits']) == 130
    assert capsys.readouterr().err == '\nstopped\n'


def test_an_unusable_stack_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / 'mmdet').mkdir()
    (tmp_path / 'mmdet/__init__.py').write_text('raise AssertionError("must not be imported")\n')
    (tmp_path / 'mmdet/version.py').write_text("__version__ = '2.28.2'\n")
    done = in_new_process('-m', 'sparse_rcnn_command', 'train', 'x', path=str(tmp_path))
    assert done.returncode == 1
    assert done.stderr.startswith(f'error: sparse_rcnn_mm {__version__} needs mmdet>=3.3.0,<3.6 (found 2.28.2): run `')
    assert done.stderr.endswith('; sparse-rcnn doctor checks the whole installation\n')


def test_configs_by_name_and_by_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert config_names() == sorted(path.stem for path in CONFIGS.glob('*.py'))
    for name in config_names():
        assert find_config(name).read_bytes() == (CONFIGS / f'{name}.py').read_bytes()
    (tmp_path / 'mine.py').write_text('')
    assert find_config('mine.py') == Path('mine.py')
    for wrong in ('sparse_rcnn_r50_x3', 'configs/sparse_rcnn_r50_3x.py'):
        with pytest.raises(UserError, match=rf"no config file {wrong} \(did you mean 'sparse_rcnn_r50_3x'\?\): pass"):
            find_config(wrong)
    (tmp_path / 'mine.pth').write_text('')
    with pytest.raises(UserError, match=r'mine\.pth is not a config file, which ends in \.py, '):
        find_config('mine.pth')


@pytest.mark.parametrize(('name', 'text', 'reason'), [
    ('a.py', 'a = 1 +', 'SyntaxError'), ('a.py', 'raise OSError("no such disk")', 'OSError: no such disk'),
    ('a.py', '_base_ = "other.py"', 'FileNotFoundError'), ('a.json', '{', 'JSONDecodeError'),
    ('a.yaml', '[', 'ParserError')])
def test_a_config_that_cannot_be_read_is_one_sentence(name: str, text: str, reason: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=rf'the config .*{name} cannot be read \({reason}'):
        config_from_file(tmp_path / name)


# (environment, arguments of torchrun)
STARTS: list[tuple[dict[str, str], list[str]]] = [
    ({}, ['--standalone']),
    ({'NNODES': '1'}, ['--standalone']),
    ({'PORT': '29511'}, ['--nnodes=1', '--node_rank=0', '--master_addr=127.0.0.1', '--master_port=29511']),
    ({'NNODES': '2', 'NODE_RANK': '1', 'MASTER_ADDR': '10.0.0.1'},
     ['--nnodes=2', '--node_rank=1', '--master_addr=10.0.0.1', '--master_port=29500']),
]


class Replaced(BaseException):
    """The process became another program."""


@pytest.mark.parametrize(('cluster', 'meeting'), STARTS)
def test_gpus_start_torchrun_with_the_same_command_line(cluster: dict[str, str], meeting: list[str],
                                                        monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[Any] = []

    def execve(*arguments: Any) -> NoReturn:
        started.extend(arguments)
        raise Replaced

    for name in ('NNODES', 'NODE_RANK', 'MASTER_ADDR', 'PORT', 'OMP_NUM_THREADS', 'PYTHONPATH'):
        monkeypatch.delenv(name, raising=False)
    for name, value in cluster.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(os, 'execve', execve)
    monkeypatch.setattr(sys, 'argv', [])
    argv = ['my config.py', '--gpus', '3', '--cfg-options', 'a.b="x y"']
    with pytest.raises(Replaced):
        run(['train', *argv])
    program, command, environment = started
    assert command == [program, '-m', 'torch.distributed.run', *meeting, '--nproc_per_node=3', '-m',
                       'sparse_rcnn_command', 'train', *argv, '--launcher', 'pytorch']
    assert (environment['OMP_NUM_THREADS'], environment['PYTHONPATH']) == ('1', str(ROOT))


def test_gpus_that_are_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match='--gpus 0 must be at least 1'):
        processes.torchrun(0)
    monkeypatch.setenv('NNODES', '2')
    monkeypatch.delenv('MASTER_ADDR', raising=False)
    with pytest.raises(UserError, match='with NNODES=2 set MASTER_ADDR'):
        processes.torchrun(2)
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 4)
    with pytest.raises(UserError, match='--gpus 8: this machine has 4'):
        processes.torchrun(8)


@pytest.mark.slow
def test_two_processes_train(small: list[str], tmp_path: Path) -> None:
    """From any folder, a config by name: 2 processes x batch 4, and one checkpoint."""
    done = in_new_process('-m', 'sparse_rcnn_command', 'train', 'sparse_rcnn_r18_digits', '--gpus', '2', '--work-dir',
                          'two', *small, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert torch.load(tmp_path / 'two/iter_4.pth', weights_only=True)['state_dict']
    log = next((tmp_path / 'two').glob('*/*.log')).read_text()
    assert "launcher = 'pytorch'" in log and 'Iter(train) [4/4]' in log


def test_unknown_classes_are_told_with_the_like(checkpoint: Path, folder: Path, tmp_path: Path,
                                                capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, 'argv', [])
    said = error_of(capsys, 'infer', str(folder), '--model', str(checkpoint), '--classes', 'Sevn', '--out-dir',
                    str(tmp_path / 'out'), '--device', 'cpu')
    assert said.startswith("error: --classes Sevn (did you mean 'seven'?): the model knows zero, one")
