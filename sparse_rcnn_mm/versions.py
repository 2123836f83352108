"""The version of the package, and the check of the versions of torch, mmengine, mmcv and mmdet."""
from __future__ import annotations

import re
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from .errors import UserError

__version__ = '0.1.0'

SUPPORTED = {
    'torch': '>=2.4',
    'mmengine': '>=0.10.7,<0.11',
    'mmcv': '>=2.1.0,<2.4',
    'mmdet': '>=3.3.0,<3.6',
}
INSTALL = 'pip install onedl-mmengine==0.10.12 onedl-mmcv==2.3.6 onedl-mmdetection==3.5.1'
INSTALL_UPSTREAM = 'pip install mmengine==0.10.7 mmcv-lite==2.1.0 mmdet==3.3.0'


class VersionError(UserError, ImportError):
    """PyTorch or an mm package is missing, or has an untested version."""


def installed_version(module: str) -> str | None:
    """The version of an installed package, or None if it is not installed. The package is not imported.

    The package's own `version.py` is read first: two distributions, such as mmdet and onedl-mmdetection, may both be
    recorded as installed while only one of them owns the files. Importing is not possible, because mmdet 3.3.0 asserts
    on mmcv's version.
    """
    spec = find_spec(module)
    if spec is None or spec.origin is None:
        return None
    version_file = Path(spec.origin).with_name('version.py')
    text = version_file.read_text(encoding='utf-8') if version_file.is_file() else ''
    literal = re.search(r"""^__version__\s*(?::\s*\w+\s*)?=\s*['"]([^'"]+)['"]""", text, re.MULTILINE)
    if literal:
        return literal.group(1)
    named = re.search(r"""\bversion\(\s*['"]([\w.-]+)['"]\s*\)""", text)
    try:
        return metadata.version(named.group(1) if named else module)
    except metadata.PackageNotFoundError:
        return 'unknown'


def check_versions() -> None:
    """Check the installed versions of torch, mmengine, mmcv and mmdet.

    Raises:
        VersionError: one is missing or has an untested version. The message names the pip command that fixes it.
    """
    found = {module: installed_version(module) for module in SUPPORTED}
    wrong = [
        f'{module}{SUPPORTED[module]} (found {version or "none"})' for module, version in found.items()
        if version is None or not fits(version, SUPPORTED[module])
    ]
    if not wrong and fits(str(found['mmdet']), '<3.4') and not fits(str(found['mmcv']), '<2.2'):
        wrong = [f'mmcv<2.2 with mmdet {found["mmdet"]} (found {found["mmcv"]})']
    if wrong:
        raise VersionError(f'sparse_rcnn_mm {__version__} needs {", ".join(wrong)}: {_advice(found)}; sparse-rcnn '
                           'doctor checks the whole installation')


def fits(version: str, specifier: str) -> bool:
    """Whether a version is in a range such as `>=2.4,<3`. False if it cannot be parsed."""
    from packaging.specifiers import SpecifierSet  # may be missing where only exported files are used
    from packaging.version import InvalidVersion

    try:
        return SpecifierSet(specifier).contains(version, prereleases=True)
    except InvalidVersion:
        return False


def _advice(found: dict[str, str | None]) -> str:
    torch = found['torch']
    if torch is None or not fits(torch, SUPPORTED['torch']):
        return f"install torch first, `pip install 'torch{SUPPORTED['torch']}'`, then `{INSTALL}`"
    return f'run `{INSTALL}` (or, for the upstream packages, `{INSTALL_UPSTREAM}`)'
