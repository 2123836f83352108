"""The COCO downloader against a server on this machine that can break off, ignore ranges and serve wrong bytes."""
from __future__ import annotations

import hashlib
import io
import subprocess
import sys
import types
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from sparse_rcnn_mm.cli import download_coco
from sparse_rcnn_mm.errors import UserError, one_sentence
from tests.kit.file_server import FileServer, serving

SCRIPT = Path(__file__).resolve().parents[2] / 'tools' / 'download_coco.py'
PICTURE = bytes(range(256)) * 40


def make_zip() -> bytes:
    """Three pictures, uncompressed as in COCO's archives."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, 'w') as file:
        for index in range(3):
            file.writestr(f'val2017/{index:012d}.jpg', PICTURE)
    return buffer.getvalue()


@pytest.mark.parametrize('name', ['../out.jpg', '/tmp/out.jpg', 'val2017/../../out.jpg'])
def test_an_archive_that_leads_out_of_the_folder(name: str, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / 'x.zip', 'w') as file:
        file.writestr('val2017/1.jpg', PICTURE)
        file.writestr(name, PICTURE)
    with pytest.raises(UserError, match='would be written outside'):
        download_coco.unpack(tmp_path / 'x.zip', tmp_path / 'root')
    assert [path.name for path in tmp_path.iterdir()] == ['x.zip']


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    monkeypatch.setenv('no_proxy', '127.0.0.1')
    with serving(make_zip()) as running:
        yield running


@pytest.fixture
def tool(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """The module of the tool, with val2017 replaced by the small archive."""
    body = make_zip()
    monkeypatch.setitem(download_coco.ARCHIVES, 'val2017', download_coco.Archive(
        'zips/val2017.zip', len(body), hashlib.md5(body).hexdigest(), 'val2017/*.jpg', 3))
    return download_coco


def download(tool: types.ModuleType, server: FileServer, root: Path, *options: str) -> int:
    try:
        with one_sentence():
            return tool.main(['--root', str(root), '--splits', 'val2017', '--mirror', server.url(), *options])
    except SystemExit as stop:
        return int(stop.code or 0)


def test_unpacks_removes_the_archive_and_skips_what_is_complete(tool, server, tmp_path, capsys) -> None:
    assert download(tool, server, tmp_path) == 0
    assert [path.read_bytes() for path in sorted(tmp_path.glob('val2017/*'))] == [PICTURE] * 3
    assert not (tmp_path / 'val2017.zip').exists()
    assert 'check val2017.zip: 100.0% of' in capsys.readouterr().err
    assert download(tool, server, tmp_path) == 0
    assert server.asked == [None]
    assert 'already complete' in capsys.readouterr().out


def test_goes_on_by_itself_when_the_connection_breaks(tool, server, tmp_path) -> None:
    server.limit = 20000
    assert download(tool, server, tmp_path, '--keep-zips') == 0
    assert server.asked == [None, 'bytes=20000-']
    assert (tmp_path / 'val2017.zip').read_bytes() == server.body


def test_a_second_run_goes_on_from_the_bytes_of_the_first(tool, server, tmp_path) -> None:
    (tmp_path / 'val2017.zip').write_bytes(server.body[:12345])
    assert download(tool, server, tmp_path) == 0
    assert server.asked == ['bytes=12345-']
    assert len(list(tmp_path.glob('val2017/*.jpg'))) == 3


def test_starts_anew_where_the_server_knows_no_ranges(tool, server, tmp_path) -> None:
    server.ranges = False
    (tmp_path / 'val2017.zip').write_bytes(b'x' * 1000)
    assert download(tool, server, tmp_path, '--keep-zips') == 0
    assert (tmp_path / 'val2017.zip').read_bytes() == server.body


def test_wrong_sum_is_not_unpacked(tool, server, tmp_path, capsys) -> None:
    server.body = server.body[:-1] + b'!'
    assert download(tool, server, tmp_path) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith('error: ') and 'val2017.zip is damaged' in last and 'delete it' in last
    assert not (tmp_path / 'val2017').exists()


def test_an_unpacking_that_was_cut_off_is_done_again(tool, server, tmp_path) -> None:
    (tmp_path / 'val2017.zip').write_bytes(server.body)
    (tmp_path / 'val2017').mkdir()
    (tmp_path / 'val2017' / f'{0:012d}.jpg').write_bytes(PICTURE)
    (tmp_path / 'val2017' / f'{1:012d}.jpg.partial').write_bytes(PICTURE[:10])
    assert download(tool, server, tmp_path) == 0
    assert server.asked == []
    assert {path.name: path.read_bytes() for path in tmp_path.glob('val2017/*')} == {
        f'{index:012d}.jpg': PICTURE for index in range(3)}


def test_no_network_is_one_sentence(tool, server, tmp_path, capsys) -> None:
    (tmp_path / 'val2017.zip').write_bytes(server.body[:12345])
    server.shutdown()
    server.server_close()
    assert download(tool, server, tmp_path) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith('error: cannot download http://127.0.0.1:') and 'run the same command again' in lines[0]
    assert (tmp_path / 'val2017.zip').read_bytes() == server.body[:12345]


def test_too_small_a_disk_is_told_before_the_download(tool, server, tmp_path, capsys, monkeypatch) -> None:
    monkeypatch.setattr(tool.shutil, 'disk_usage', lambda path: types.SimpleNamespace(free=1000))
    assert download(tool, server, tmp_path) == 1
    assert 'free some space, or choose another folder with --root' in capsys.readouterr().err
    assert server.asked == []


def test_the_script_needs_nothing_but_the_standard_library(tmp_path) -> None:
    done = subprocess.run([sys.executable, '-I', '-S', str(SCRIPT), '--root', str(tmp_path), '--mirror', 'http://127.0.0.1:1',
                           '--splits', 'annotations'], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr.startswith('error: cannot download http://127.0.0.1:1/annotations/')
    assert done.stderr.count('\n') == 1
