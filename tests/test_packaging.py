"""What a wheel holds and how it works away from the clone; that the README names what exists; the license."""
from __future__ import annotations

import configparser
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import sparse_rcnn_mm
from tests.kit import ROOT

CONFIGS = sorted(path.relative_to(ROOT) for path in (ROOT / 'configs').rglob('*.py'))

# Run in another folder than the clone.
USE_THE_CONFIGS = """
import sys
from pathlib import Path
import sparse_rcnn_mm.registry
from mmengine.config import Config
from mmengine.hub import get_config
mim = Path(sparse_rcnn_mm.__file__).parent / '.mim'
assert str(mim).startswith(sys.argv[1]), mim
Path('mine.py').write_text("_base_ = 'sparse_rcnn_mm::configs/sparse_rcnn_r50_3x.py'\\n"
                           "model = dict(rpn_head=dict(num_proposals=7))\\n")
print(Config.fromfile('mine.py').model.rpn_head.num_proposals)
print(get_config('sparse_rcnn_mm::configs/sparse_rcnn_r101_3x.py').model.backbone.depth)
"""


@pytest.fixture(scope='module')
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, unpacked; built from a copy, so that the clone stays clean."""
    folder = tmp_path_factory.mktemp('wheel')
    clone = folder / 'clone'
    clone.mkdir()
    for name in ('configs', 'tools', 'sparse_rcnn_mm'):
        shutil.copytree(ROOT / name, clone / name, symlinks=True, ignore=shutil.ignore_patterns('__pycache__'))
    for name in ('setup.cfg', 'pyproject.toml', 'README.md', 'LICENSE', 'sparse_rcnn_command.py'):
        shutil.copy(ROOT / name, clone)
    done = subprocess.run([sys.executable, '-c', 'from setuptools.build_meta import build_wheel; build_wheel("..")'],
                          cwd=clone, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    (path,) = folder.glob('*.whl')
    with zipfile.ZipFile(path) as file:
        file.extractall(folder / 'site')
    return folder / 'site'


def test_wheel_holds_every_config_tool_and_module(wheel: Path) -> None:
    mim = wheel / 'sparse_rcnn_mm' / '.mim'
    for config in CONFIGS:
        assert (mim / 'configs' / config).read_bytes() == (ROOT / config).read_bytes()
    for tool in [*(ROOT / 'tools').glob('*.py'), *(ROOT / 'tools').glob('*.sh')]:
        assert (mim / 'tools' / tool.name).read_bytes() == tool.read_bytes()
    in_clone, in_wheel = ({path.relative_to(root) for path in (root / 'sparse_rcnn_mm').rglob('*.py')
                           if '.mim' not in path.parts} for root in (ROOT, wheel))
    assert in_wheel == in_clone
    top = sorted(path.name.split('-')[0] for path in wheel.iterdir())
    assert top == ['sparse_rcnn_command.py', *['sparse_rcnn_mm'] * 2]  # with .dist-info
    assert (wheel / 'sparse_rcnn_mm/py.typed').is_file()


def test_wheel_says_version_python_and_license(wheel: Path) -> None:
    (metadata,) = wheel.glob('*.dist-info/METADATA')
    lines = metadata.read_text().splitlines()
    assert f'Version: {sparse_rcnn_mm.__version__}' in lines
    assert 'Requires-Python: >=3.10' in lines
    assert 'Requires-Dist: torch>=2.4' in lines
    # Neither set of mm packages is forced on a user of the other.
    assert not [line for line in lines if re.match(r'Requires-Dist: (onedl-|mm)', line) and 'extra ==' not in line]
    assert list(wheel.glob('*.dist-info/licenses/LICENSE'))


def test_configs_are_found_from_the_wheel(wheel: Path, tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, '-c', USE_THE_CONFIGS, str(wheel)], cwd=tmp_path, capture_output=True,
                          text=True, timeout=120, env={'PYTHONPATH': str(wheel), 'PATH': '', 'HOME': str(tmp_path)})
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ['7', '101']


def test_configs_are_found_where_the_package_is_not_beside_its_metadata(tmp_path: Path) -> None:
    """As after `pip install -e`."""
    metadata = tmp_path / f'sparse_rcnn_mm-{sparse_rcnn_mm.__version__}.dist-info/METADATA'
    metadata.parent.mkdir()
    metadata.write_text(f'Metadata-Version: 2.1\nName: sparse_rcnn_mm\nVersion: {sparse_rcnn_mm.__version__}\n')
    done = subprocess.run([sys.executable, '-c', USE_THE_CONFIGS, str(ROOT)], cwd=tmp_path, capture_output=True,
                          text=True, timeout=120,
                          env={'PYTHONPATH': f'{tmp_path}:{ROOT}', 'PATH': '', 'HOME': str(tmp_path)})
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ['7', '101']


def test_version_gate_and_extras_agree() -> None:
    """The extras install nothing that the gate would refuse, and the pins are what the gate recommends."""
    from packaging.requirements import Requirement

    from sparse_rcnn_mm.versions import INSTALL, INSTALL_UPSTREAM, SUPPORTED

    setup = configparser.ConfigParser()
    setup.read(ROOT / 'setup.cfg')
    modules = {'onedl-mmengine': 'mmengine', 'onedl-mmcv': 'mmcv', 'mmcv-lite': 'mmcv', 'onedl-mmdetection': 'mmdet'}
    for extra, install, pins in (('onedl', INSTALL, 'requirements.txt'),
                                 ('upstream', INSTALL_UPSTREAM, 'requirements-upstream.txt')):
        pinned = (ROOT / pins).read_text().splitlines()
        ranges = {r.name: r.specifier for r in map(Requirement, setup['options.extras_require'][extra].split('\n')[1:])}
        for pin in map(Requirement, install.removeprefix('pip install ').split()):
            assert str(pin) in pinned
            version = str(pin.specifier).removeprefix('==')
            assert version in ranges[pin.name]
            assert Requirement(f'x{SUPPORTED[modules.get(pin.name, pin.name)]}').specifier.contains(version)


@pytest.mark.parametrize('page', ['README.md', 'docs/index.md', '.github/workflows/wheel.yml'])
def test_extras_are_named_as_pip_writes_them(page: str) -> None:
    """Without an underscore, which pip before 23.3 does not find in a wheel."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / 'setup.cfg')
    extras = set(setup['options.extras_require'])
    named = set(','.join(re.findall(r'\[(onedl[\w,-]*)\]', (ROOT / page).read_text())).split(','))
    assert {'onedl', 'own-data'} <= named <= extras
    assert [name for name in extras if '_' in name] == []


@pytest.mark.parametrize('page', ['README.md', 'CONTRIBUTING.md'])
def test_make_has_the_targets_that_pages_name(page: str) -> None:
    targets = set(re.findall(r'^make ([\w-]+)|`make ([\w-]+)`', (ROOT / page).read_text(), re.MULTILINE))
    names = {name for pair in targets for name in pair if name}
    assert {'test', 'docs'} <= names
    makefile = (ROOT / 'Makefile').read_text()
    assert [name for name in sorted(names) if not re.search(rf'^{name}:', makefile, re.MULTILINE)] == []


def test_every_config_is_listed() -> None:
    text = ''.join(page.read_text() for page in (ROOT / 'README.md', *(ROOT / 'docs').glob('*.md')))
    assert [path.name for path in (ROOT / 'configs').glob('*.py') if f'`{path.stem}`' not in text] == []


def test_python_versions_are_the_same_everywhere() -> None:
    """In the classifiers, the badge and the workflow."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / 'setup.cfg')
    versions = re.findall(r'Python :: (3\.\d+)', setup['metadata']['classifiers'])
    assert f'python: {" | ".join(versions)}' in (ROOT / 'docs/images/badge_python.svg').read_text()
    assert f'![Python {versions[0]} to {versions[-1]}]' in (ROOT / 'README.md').read_text()
    matrix = re.search(r'python: \[(.+)]', (ROOT / '.github/workflows/tests.yml').read_text())
    assert matrix is not None
    assert re.findall(r'3\.\d+', matrix[1]) == versions


def test_license_is_mit() -> None:
    text = (ROOT / 'LICENSE').read_text()
    assert text.startswith('MIT License\n\nCopyright (c) 2026 the sparse_rcnn_mm authors\n')
    assert 'Permission is hereby granted, free of charge' in text
