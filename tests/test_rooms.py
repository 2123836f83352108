"""Who may import whom: a room imports from the rooms below it only (docs/architecture.md)."""
from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / 'sparse_rcnn_mm'
# From the top. Rooms on one line do not import each other. Every module of the package is in one of them.
FLOORS = [
    {'stack'},  # `__init__` imports it
    {'cli'},
    {'diagnosis'},
    {'benchmark', 'evaluation'},
    {'engine'},
    {'own_data'},
    {'export'},
    {'inference'},
    {'acceleration'},
    {'models', 'backbones'},
    {'datasets'},
    {'checkpoints'},
    {'visualization'},
    {'ops'},
    {'registry', 'runtime', 'config_files', 'downloads', 'versions'},
    {'errors', 'late_imports', 'lazy', 'mmcv_ops', 'torchvision_ops', 'own_outputs'},
    {'terminal'},
]
HEIGHT = {room: height for height, floor in enumerate(reversed(FLOORS)) for room in floor}
FILES = sorted(path for path in PACKAGE.rglob('*.py') if '.mim' not in path.parts and path.parent != PACKAGE)
FILES += sorted(path for path in PACKAGE.glob('*.py') if path.name not in ('__init__.py', '__main__.py'))


def room_of(module: tuple[str, ...]) -> str:
    return module[1] if len(module) > 1 else ''


def imports_of(path: Path) -> Iterator[tuple[int, tuple[str, ...]]]:
    """Line and full name of every module of this package that a file imports."""
    package = (PACKAGE.name, *path.relative_to(PACKAGE).parent.parts)
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            start = package[:len(package) - node.level + 1] if node.level else ()
            module = (*start, *(node.module or '').split('.')) if node.module else start
            if module == (PACKAGE.name,):
                yield from ((node.lineno, (*module, alias.name)) for alias in node.names)
            elif module[0] == PACKAGE.name:
                yield node.lineno, module
        elif isinstance(node, ast.Import):
            yield from ((node.lineno, tuple(alias.name.split('.'))) for alias in node.names
                        if alias.name.split('.')[0] == PACKAGE.name)


@pytest.mark.parametrize('path', FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_nothing_below_imports_what_is_above(path: Path) -> None:
    own = path.relative_to(PACKAGE).with_suffix('').parts[0]
    assert own in HEIGHT, f'{own} is in no room'
    up = [f'line {line}: {".".join(module)}' for line, module in imports_of(path)
          if room_of(module) not in ('', '__version__', own)
          and HEIGHT[room_of(module)] >= HEIGHT[own]]
    assert not up


def test_the_reader_of_imports_sees_every_form(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / 'ops' / 'x.py'
    path.parent.mkdir()
    path.write_text('import sparse_rcnn_mm.engine.config\nfrom sparse_rcnn_mm import models\nfrom .. import inference\n'
                    'from ..engine.hooks import x\nfrom . import y\nfrom .z import w\n'
                    'def f():\n  import sparse_rcnn_mm.cli\n')
    monkeypatch.setitem(globals(), 'PACKAGE', Path(tmp_path, 'sparse_rcnn_mm').parent / PACKAGE.name)
    moved = tmp_path / PACKAGE.name / 'ops'
    moved.parent.mkdir()
    path.parent.rename(moved)
    rooms = [room_of(module) for _, module in imports_of(moved / 'x.py')]
    assert sorted(rooms) == sorted(['engine', 'models', 'inference', 'engine', 'ops', 'ops', 'cli'])


def test_the_plain_model_is_read_in_one_sitting() -> None:
    assert sum(len(path.read_text().splitlines()) for path in (PACKAGE / 'models').glob('*.py')) <= 950
