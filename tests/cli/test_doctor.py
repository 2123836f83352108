"""What the doctor says of good and of broken installations, and of the machine."""
from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from sparse_rcnn_mm.cli import doctor
from sparse_rcnn_mm.versions import INSTALL
from tests.kit import ROOT


def run_doctor(path: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """With the packages in `path` before all others."""
    environment = {**os.environ, 'PYTHONPATH': f'{path}{os.pathsep}{ROOT}'}
    return subprocess.run([sys.executable, *options, '-m', 'sparse_rcnn_command', 'doctor'], env=environment,
                          capture_output=True, text=True, timeout=120)


def test_this_environment_is_ready(tmp_path: Path) -> None:
    done = run_doctor(tmp_path)
    assert done.returncode == 0, done.stdout
    assert 'BROKEN' not in done.stdout and done.stdout.endswith('\nready\n')
    assert 'import          works; compiled ops of mmcv: ' in done.stdout


def test_a_wrong_version(tmp_path: Path) -> None:
    (tmp_path / 'mmdet').mkdir()
    (tmp_path / 'mmdet/__init__.py').write_text('raise AssertionError("must not be imported")\n')
    (tmp_path / 'mmdet/version.py').write_text("__version__ = '2.28.2'\n")
    done = run_doctor(tmp_path)
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    line = lines.index('BROKEN mmdet           2.28.2  (needs >=3.3.0,<3.6)')
    assert lines[line + 1] == f'{"":23}-> {INSTALL}'
    assert 'devices' in done.stdout and done.stdout.endswith('\n2 broken: see the lines with an arrow\n')


def test_versions_that_fit_but_cannot_be_imported(tmp_path: Path) -> None:
    (tmp_path / 'pycocotools.py').write_text('raise OSError("libwhatever.so: wrong ELF class")\n')
    done = run_doctor(tmp_path)
    assert done.returncode == 1
    assert 'BROKEN import          OSError: libwhatever.so: wrong ELF class\n' in done.stdout


def test_with_nothing_installed(tmp_path: Path) -> None:
    """`packaging` is the one thing that the version check stands on; pip installs it with the package."""
    import packaging
    (tmp_path / 'packaging').symlink_to(Path(packaging.__file__).parent)
    done = run_doctor(tmp_path, '-S')
    assert done.returncode == 1, done.stderr
    for module in ('torch', 'mmengine', 'mmcv', 'mmdet'):
        assert f'BROKEN {module:16}missing  (needs ' in done.stdout
    assert "-> pip install 'torch>=2.4'\n" in done.stdout
    assert 'BROKEN numpy           missing\n' in done.stdout


@pytest.mark.parametrize(('sentence', 'command'), [
    ("ImportError: x needs torch>=2.4 (found none): install torch first, `pip install 'torch>=2.4'`, then `more`.",
     "pip install 'torch>=2.4'"),
    ('OSError: something else', INSTALL),
])
def test_the_command_that_mends_is_the_first_that_the_error_names(sentence: str, command: str) -> None:
    assert doctor.advice(sentence) == command


@pytest.mark.parametrize(('files', 'quota', 'limit'), [
    ({'cpu.max': '150000 100000\n', 'memory.max': str(3 << 30)}, 1.5, 3.0),
    ({'cpu.max': 'max 100000\n', 'memory.max': 'max\n'}, None, None),
    ({'cpu/cpu.cfs_quota_us': '400000', 'cpu/cpu.cfs_period_us': '100000',
      'memory/memory.limit_in_bytes': str(1 << 31)}, 4.0, 2.0),
    ({'cpu/cpu.cfs_quota_us': '-1', 'cpu/cpu.cfs_period_us': '100000'}, None, None),
    ({}, None, None),
])
def test_limits_of_a_container(monkeypatch: pytest.MonkeyPatch, files: dict[str, str], quota: float | None,
                               limit: float | None) -> None:
    def read(name: str) -> str:
        if name not in files:
            raise FileNotFoundError(name)
        return files[name].strip()

    monkeypatch.setattr(doctor, '_cgroup', read)
    assert (doctor.cpu_quota(), doctor.memory_limit()) == (quota, limit)
    assert ('limit of' in doctor.memory().value) == (limit is not None)
    monkeypatch.setenv('OMP_NUM_THREADS', '3')
    threads = doctor.cpus()
    assert threads.mend == ('export OMP_NUM_THREADS=1' if quota == 1.5 else '') and not threads.needed


def test_disks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    later = tmp_path / 'made' / 'later'
    assert doctor.disk('cache', later).mend == ''
    monkeypatch.setattr(doctor.shutil, 'disk_usage', lambda path: SimpleNamespace(free=1 << 30))
    low = doctor.disk('disk', later)
    assert low.value == f'1.0 GiB free  {later}' and low.mend.startswith('make room') and not low.needed

    def read_only(dir: Path) -> None:
        raise OSError('read-only')

    monkeypatch.setattr(doctor.tempfile, 'TemporaryFile', read_only)
    cache = doctor.disk('cache', later)
    assert (cache.value, cache.mend, cache.needed) == (f'{later} cannot be written', 'export TORCH_HOME=FOLDER', True)


def test_the_cache_is_where_torch_keeps_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import torch
    for variables in ({}, {'XDG_CACHE_HOME': str(tmp_path)}, {'TORCH_HOME': str(tmp_path / 'x')}):
        for name in ('XDG_CACHE_HOME', 'TORCH_HOME'):
            monkeypatch.delenv(name, raising=False)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        assert doctor.cache_folder() == Path(torch.hub.get_dir(), 'checkpoints')
