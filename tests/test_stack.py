"""What `import sparse_rcnn_mm` brings in, and when the versions are checked; each in a process of its own."""
from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from sparse_rcnn_mm.stack import LIGHT
from tests.kit import CONFIGS, ROOT
from tests.test_rooms import FILES, PACKAGE

HEAVY = ('torch', 'mmengine', 'mmcv', 'mmdet')
ALL = {'.'.join(path.relative_to(PACKAGE).with_suffix('').parts).removesuffix('.__init__') for path in FILES}


def in_new_process(script: str, *arguments: str, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    paths = f'{path}:{ROOT}' if path else str(ROOT)
    return subprocess.run([sys.executable, '-W', 'ignore', '-c', script, *arguments], capture_output=True, text=True,
                          env={'PYTHONPATH': paths, 'PATH': ''}, cwd=path or ROOT, timeout=300)


def test_light_commands_know_what_heavy_rooms_know() -> None:
    from sparse_rcnn_mm.acceleration.prediction import PRECISIONS
    from sparse_rcnn_mm.cli import infer
    assert sorted(infer.PRECISIONS) == sorted(PRECISIONS)


def test_what_is_light_imports_no_stack() -> None:
    script = ('import sys\nfrom importlib import import_module\nfor name in sys.argv[1:]:\n'
              f'  import_module(name)\n  found = {set(HEAVY)} & set(sys.modules)\n  assert not found, (name, found)\n')
    done = in_new_process(script, 'sparse_rcnn_mm', *(f'sparse_rcnn_mm.{name}' for name in sorted(LIGHT)))
    assert done.returncode == 0, done.stderr
    assert LIGHT <= ALL  # none that is gone


MMDET_LATER = """
import sys
import sparse_rcnn_mm
import mmdet.models
from mmcv.utils.ext_loader import check_ops_exist
assert not check_ops_exist()
"""
CUSTOM_IMPORTS = """
import sys
{first}
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import CheckpointLoader
config = Config.fromfile(sys.argv[1])
init_default_scope(config.default_scope)
model = MODELS.build(config.model)
assert type(model).__module__ == 'sparse_rcnn_mm.models.sparse_rcnn', type(model)
assert type(model.rpn_head).__module__.startswith('sparse_rcnn_mm.'), type(model.rpn_head)
init_default_scope('mmdet')
from mmdet.registry import MODELS
assert MODELS.get('sparse_rcnn_mm.SparseRCNN') is type(model) is not MODELS.get('SparseRCNN')
from sparse_rcnn_mm.stack import _WATCHER, load_from_file
assert CheckpointLoader._schemes[''] is load_from_file and _WATCHER not in sys.meta_path
"""


@pytest.mark.slow
def test_mmdet_can_be_imported_after_this_package() -> None:
    done = in_new_process(MMDET_LATER)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize('first', ['import sparse_rcnn_mm', 'import mmengine', 'import mmcv, sparse_rcnn_mm.runtime'])
def test_custom_imports_register_everything(tmp_path: Path, first: str) -> None:
    """Whatever was imported before."""
    (tmp_path / 'mine.py').write_text(
        f"_base_ = '{CONFIGS}/sparse_rcnn_r18_digits.py'\ncustom_imports = dict(imports=['sparse_rcnn_mm'])\n"
        'model = dict(backbone=dict(init_cfg=None))\n')
    done = in_new_process(CUSTOM_IMPORTS.format(first=first), str(tmp_path / 'mine.py'))
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_configs_inherit_by_the_name_of_the_package_once_it_is_imported(tmp_path: Path) -> None:
    (tmp_path / 'mine.py').write_text("_base_ = 'sparse_rcnn_mm::configs/sparse_rcnn_r18_digits.py'\n")
    done = in_new_process('import sparse_rcnn_mm\nfrom mmengine.config import Config\n'
                          'print(Config.fromfile("mine.py").default_scope)', path=tmp_path)
    assert done.stdout.split()[-1:] == ['sparse_rcnn_mm'], done.stderr


def test_versions_are_checked_at_the_first_room_that_needs_them(tmp_path: Path) -> None:
    """All of them, before anything of the stack is imported."""
    (tmp_path / 'mmdet').mkdir()
    (tmp_path / 'mmdet/__init__.py').write_text('raise AssertionError("must not be imported")\n')
    (tmp_path / 'mmdet/version.py').write_text("__version__ = '2.28.2'\n")
    script = f"""
import sys
from importlib import import_module
import sparse_rcnn_mm, sparse_rcnn_mm.runtime
tries = [lambda: sparse_rcnn_mm.Detector, lambda: sparse_rcnn_mm.train,
         *(lambda name=name: import_module(f'sparse_rcnn_mm.{{name}}') for name in sys.argv[1:])]
for count, attempt in enumerate(tries):
    try:
        attempt()
    except ImportError as error:
        assert isinstance(error, sparse_rcnn_mm.errors.UserError)
        assert 'needs mmdet>=3.3.0,<3.6 (found 2.28.2): run `pip install ' in str(error)
    else:
        raise AssertionError(count)
    assert not {set(HEAVY)} & set(sys.modules)
"""
    done = in_new_process(script, *sorted(ALL - LIGHT), path=tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(('first', 'then', 'raises'), [('sparse_rcnn_mm.runtime', 'mmengine', False),
                                                       ('mmengine', 'sparse_rcnn_mm', True)])
def test_untested_versions_do_not_keep_others_from_mmengine(tmp_path: Path, first: str, then: str,
                                                           raises: bool) -> None:
    (tmp_path / 'mmdet').mkdir()
    (tmp_path / 'mmdet/__init__.py').touch()
    (tmp_path / 'mmdet/version.py').write_text("__version__ = '2.28.2'\n")
    script = f'import warnings\nimport {first}\nwarnings.simplefilter("always")\nimport {then}\nimport mmengine.runner'
    done = in_new_process(script, path=tmp_path)
    assert done.returncode == raises, done.stderr
    assert ('VersionError: ' if raises else 'UserWarning: ') + 'sparse_rcnn_mm 0' in done.stderr.replace(
        'sparse_rcnn_mm.versions.', '')


@pytest.mark.parametrize('compiled', [True, False])
def test_compiled_operations_are_left_alone_and_mmcv_is_not_imported_to_see_them(tmp_path: Path,
                                                                                 compiled: bool) -> None:
    (tmp_path / 'mmcv').mkdir()
    (tmp_path / 'mmcv/__init__.py').write_text('raise AssertionError("must not be imported")\n')
    if compiled:
        (tmp_path / 'mmcv/_ext.py').touch()
    done = in_new_process('import sys, sparse_rcnn_mm\nprint("mmcv._ext" in sys.modules)', path=tmp_path)
    assert done.stdout.split() == [str(not compiled)], done.stderr


@pytest.mark.slow
@pytest.mark.parametrize('room', ['datasets.coco', 'engine', 'inference.detector', 'models', 'own_data.config'])
def test_imports_print_nothing(room: str) -> None:
    """onedl-mmdetection prints a notice, which would be in the output of scripts."""
    done = in_new_process(f'import sparse_rcnn_mm.{room}')
    assert (done.returncode, done.stdout) == (0, ''), done.stderr
