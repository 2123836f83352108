"""The version gate: what it reads without importing, and what it says."""
from __future__ import annotations

import sys
from importlib import metadata
from pathlib import Path

import pytest

from sparse_rcnn_mm import versions

ONEDL = {'torch': '2.13.0+cpu', 'mmengine': '0.10.12', 'mmcv': '2.3.6', 'mmdet': '3.5.1'}
UPSTREAM = {'torch': '2.4.0', 'mmengine': '0.10.7', 'mmcv': '2.1.0', 'mmdet': '3.3.0'}


def gate(monkeypatch: pytest.MonkeyPatch, found: dict[str, str | None]) -> None:
    monkeypatch.setattr(versions, 'installed_version', found.get)
    versions.check_versions()


@pytest.mark.parametrize('found', [ONEDL, UPSTREAM, ONEDL | {'torch': '2.5.0a0+git12'}])
def test_supported_sets_pass(monkeypatch: pytest.MonkeyPatch, found: dict[str, str | None]) -> None:
    gate(monkeypatch, found)


@pytest.mark.parametrize(('change', 'said'), [
    ({'torch': '2.3.1'}, 'needs torch>=2.4 (found 2.3.1): install torch first'),
    ({'mmengine': '0.10.6'}, 'needs mmengine>=0.10.7,<0.11 (found 0.10.6): run `pip install onedl-mmengine=='),
    ({'mmengine': '0.11.0'}, 'mmengine>=0.10.7,<0.11 (found 0.11.0)'),
    ({'mmcv': '2.0.1'}, 'mmcv>=2.1.0,<2.4 (found 2.0.1)'),
    ({'mmcv': '2.4.0'}, 'mmcv>=2.1.0,<2.4 (found 2.4.0)'),
    ({'mmdet': '3.2.0'}, 'mmdet>=3.3.0,<3.6 (found 3.2.0)'),
    ({'mmdet': '3.6.0'}, 'mmdet>=3.3.0,<3.6 (found 3.6.0)'),
    ({'mmdet': 'unknown'}, 'mmdet>=3.3.0,<3.6 (found unknown)'),
    ({'mmcv': None, 'mmdet': None}, 'needs mmcv>=2.1.0,<2.4 (found none), mmdet>=3.3.0,<3.6 (found none): run `pip'),
    ({'mmdet': '3.3.0', 'mmcv': '2.2.0'}, 'needs mmcv<2.2 with mmdet 3.3.0 (found 2.2.0)'),
])
def test_anything_else_gets_one_sentence(monkeypatch: pytest.MonkeyPatch, change: dict[str, str | None],
                                         said: str) -> None:
    with pytest.raises(ImportError) as caught:
        gate(monkeypatch, ONEDL | change)
    message = str(caught.value)
    assert said in message
    assert message.startswith(f'sparse_rcnn_mm {versions.__version__} needs ')
    assert message.endswith('; sparse-rcnn doctor checks the whole installation') and '\n' not in message


def make_package(folder: Path, name: str, version_file: str | None) -> None:
    (folder / name).mkdir()
    (folder / name / '__init__.py').write_text('raise AssertionError("must not be imported")\n')
    if version_file is not None:
        (folder / name / 'version.py').write_text(version_file)


@pytest.mark.parametrize(('version_file', 'expected'), [
    ("__version__ = '3.3.0'\nshort_version = __version__\n", '3.3.0'),
    ('from typing import Optional\n__version__: str = "2.1.0"\n', '2.1.0'),
    ("from importlib.metadata import version\n\n__version__ = version('pytest')\n", metadata.version('pytest')),
    ("from importlib.metadata import version\n\n__version__ = version('no-such-distribution')\n", 'unknown'),
    (None, 'unknown'),
])
def test_reads_versions_without_importing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, version_file: str | None,
                                          expected: str) -> None:
    make_package(tmp_path, 'fake_mm_package', version_file)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert versions.installed_version('fake_mm_package') == expected
    assert 'fake_mm_package' not in sys.modules


def test_missing_package_and_folder_without_code_have_no_version(monkeypatch: pytest.MonkeyPatch,
                                                                 tmp_path: Path) -> None:
    (tmp_path / 'only_a_folder').mkdir()
    monkeypatch.syspath_prepend(str(tmp_path))
    assert versions.installed_version('no_such_package') is None
    assert versions.installed_version('only_a_folder') is None


def test_agrees_with_the_installed_packages() -> None:
    import mmcv
    import mmdet
    import mmengine
    import torch

    for module in (torch, mmengine, mmcv, mmdet):
        assert versions.installed_version(module.__name__) == module.__version__
