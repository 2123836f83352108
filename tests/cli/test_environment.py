"""The variables that the commands set before PyTorch is loaded."""
from __future__ import annotations

import subprocess
import sys

import pytest

from sparse_rcnn_mm.cli import environment
from tests.kit import ROOT
from tests.kit.control_group import control_group


@pytest.mark.parametrize(('files', 'quota'), [
    ({'cpu.max': '150000 100000\n'}, 1.5), ({'cpu.max': 'max 100000\n'}, None), ({}, None),
    ({'cpu/cpu.cfs_quota_us': '400000', 'cpu/cpu.cfs_period_us': '100000'}, 4.0),
    ({'cpu/cpu.cfs_quota_us': '-1', 'cpu/cpu.cfs_period_us': '100000'}, None)])
def test_the_processors_of_a_container(monkeypatch: pytest.MonkeyPatch, files: dict[str, str],
                                       quota: float | None) -> None:
    monkeypatch.setattr(environment, 'cgroup', control_group(files))
    assert environment.cpu_quota() == quota


@pytest.mark.parametrize(('before', 'quota', 'after'), [
    ({}, None, {'GOMP_SPINCOUNT': '1000'}),
    ({}, 2.5, {'GOMP_SPINCOUNT': '1000', 'OMP_NUM_THREADS': '2'}),
    ({}, 0.5, {'GOMP_SPINCOUNT': '1000', 'OMP_NUM_THREADS': '1'}),
    ({}, 8.0, {'GOMP_SPINCOUNT': '1000'}),
    ({'OMP_WAIT_POLICY': 'active'}, None, {'OMP_WAIT_POLICY': 'active'}),
    ({'GOMP_SPINCOUNT': '9', 'OMP_NUM_THREADS': '7'}, 2.5, {'GOMP_SPINCOUNT': '9', 'OMP_NUM_THREADS': '7'}),
])
def test_what_is_set(monkeypatch: pytest.MonkeyPatch, before: dict[str, str], quota: float | None,
                     after: dict[str, str]) -> None:
    monkeypatch.setattr(environment, 'cpu_quota', lambda: quota)
    monkeypatch.setattr(environment, 'allowed_processors', lambda: 8)
    variables = dict(before)
    environment.set_environment(variables)
    assert variables == after


@pytest.mark.parametrize('start', ['import sparse_rcnn_command', 'import runpy; runpy.run_path("tools/train.py")'])
def test_pytorch_is_loaded_after_it(start: str) -> None:
    program = f"""
import os, sys
class Watch:
    def find_spec(self, name, path=None, target=None):
        if name == 'torch':
            print('torch finds', os.environ.get('GOMP_SPINCOUNT'))
            sys.exit()
os.environ.pop('GOMP_SPINCOUNT', None)
sys.meta_path.insert(0, Watch())
{start}
from sparse_rcnn_mm.cli.commands import run
run(['train', '--help'])
"""
    done = subprocess.run([sys.executable, '-c', program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout == 'torch finds 1000\n', done.stderr
