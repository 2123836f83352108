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
from tests.kit.control_group import control_group


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


@pytest.mark.parametrize(('quota', 'mend'), [(1.5, 'export OMP_NUM_THREADS=1'), (4.0, ''), (None, '')])
def test_more_threads_than_the_container_may_use(monkeypatch: pytest.MonkeyPatch, quota: float | None,
                                                 mend: str) -> None:
    monkeypatch.setattr(doctor, 'cpu_quota', lambda: quota)
    monkeypatch.setenv('OMP_NUM_THREADS', '3')
    assert (doctor.cpus().mend, doctor.cpus().needed) == (mend, False)


@pytest.mark.parametrize(('files', 'limit'), [
    ({'memory.max': str(3 << 30)}, 3.0), ({'memory.max': 'max\n'}, None), ({}, None),
    ({'memory/memory.limit_in_bytes': str(1 << 31)}, 2.0)])
def test_the_memory_of_a_container(monkeypatch: pytest.MonkeyPatch, files: dict[str, str],
                                   limit: float | None) -> None:
    monkeypatch.setattr(doctor, 'cgroup', control_group(files))
    assert doctor.memory_limit() == limit
    assert ('limit of' in doctor.memory().value) == (limit is not None)


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
