"""The VOC downloader against servers on this machine, and the configs on what it writes."""
from __future__ import annotations

import hashlib
import io
import json
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.registry import init_default_scope

from sparse_rcnn_mm.cli import archives, download_voc
from sparse_rcnn_mm.errors import UserError, one_sentence
from sparse_rcnn_mm.own_data.voc_challenge import write_annotations
from sparse_rcnn_mm.registry import DATASETS, METRICS
from tests.kit import CONFIGS, ROOT
from tests.kit.file_server import FileServer, serving
from tests.kit.voc import write_voc

IMAGES = 6


def packed(folder: Path) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode='w') as file:
        file.add(folder / 'VOCdevkit', 'VOCdevkit')
    return buffer.getvalue()


@pytest.fixture(scope='module')
def body(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp('voc')
    write_voc(folder, IMAGES)
    return packed(folder)


@pytest.fixture
def server(body: bytes, monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    monkeypatch.setenv('no_proxy', '127.0.0.1')
    monkeypatch.setitem(download_voc.ARCHIVES, 'trainval2012', download_voc.VocArchive(
        'voc2012/VOCtrainval_11-May-2012.tar', len(body), hashlib.md5(body).hexdigest(),
        'VOCdevkit/VOC2012/ImageSets/*/trainval.txt', IMAGES))
    with serving(body) as running:
        yield running


def download(root: Path, *mirrors: str) -> int:
    options = [option for mirror in mirrors for option in ('--mirror', mirror)]
    try:
        with one_sentence():
            return download_voc.main(['--root', str(root), '--splits', 'trainval2012', *options])
    except SystemExit as stop:
        return int(stop.code or 0)


def test_unpacks_converts_and_skips_what_is_complete(server: FileServer, tmp_path: Path,
                                                     capsys: pytest.CaptureFixture) -> None:
    assert download(tmp_path, server.url()) == 0
    said = capsys.readouterr().out
    assert 'voc2012_train_masks.json: 2 images' in said and 'voc2012_val_masks.json: 2 images' in said
    assert 'voc2007_test: not written, because VOCdevkit/VOC2007/ImageSets/Main/test.txt is missing' in said
    assert not list(tmp_path.glob('*.tar'))
    assert download(tmp_path, server.url()) == 0
    assert server.asked == [None] and 'already complete' in capsys.readouterr().out
    (tmp_path / 'VOCdevkit/VOC2012/JPEGImages/2012_000003.jpg').unlink()  # cut off: it is fetched again
    assert download(tmp_path, server.url()) == 0
    assert server.asked == [None, None] and (tmp_path / 'VOCdevkit/VOC2012/JPEGImages/2012_000003.jpg').is_file()


def test_the_next_mirror_resumes(server: FileServer, body: bytes, tmp_path: Path,
                                 capsys: pytest.CaptureFixture) -> None:
    (tmp_path / 'VOCtrainval_11-May-2012.tar').write_bytes(body[:20000])
    with serving(b'gone') as moved, serving(b'') as broken:
        moved.status = 404
        assert download(tmp_path, moved.url(), broken.url('{name}'), server.url('{name}')) == 0
    assert (moved.asked, server.asked) == (['bytes=20000-'], ['bytes=20000-'])
    assert capsys.readouterr().err.count('trying the next address') == 2


def test_a_page_in_place_of_the_file_is_not_taken(server: FileServer, body: bytes, tmp_path: Path) -> None:
    with serving(b'<html>moved</html>') as page:
        assert download(tmp_path, page.url(), server.url()) == 0
    assert server.asked == [None]


def test_dead_servers_are_one_sentence(server: FileServer, body: bytes, tmp_path: Path,
                                       capsys: pytest.CaptureFixture) -> None:
    (tmp_path / 'VOCtrainval_11-May-2012.tar').write_bytes(body[:20000])
    server.status = 503
    assert download(tmp_path, 'http://127.0.0.1:1', server.url()) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith('error: cannot download VOCtrainval_11-May-2012.tar from any of 2 addresses (http://127.0.0.1:1/')
    assert 'HTTP Error 503' in last and 'name another one with --mirror' in last and 'resumes after the 0.0 MB' in last
    assert (tmp_path / 'VOCtrainval_11-May-2012.tar').read_bytes() == body[:20000]


def hostile(kind: str) -> bytes:
    buffer = io.BytesIO()
    if kind == 'zip':
        with zipfile.ZipFile(buffer, 'w') as file:
            file.writestr('../outside.txt', 'x')
        return buffer.getvalue()
    with tarfile.open(fileobj=buffer, mode='w') as archive:
        names = {'up': 'a/../../outside.txt', 'absolute': '/outside.txt', 'windows': '..\\outside.txt',
                 'drive': 'C:\\outside.txt'}
        if kind in ('link', 'linked file'):
            link = tarfile.TarInfo('a' if kind == 'link' else 'a/b')
            link.type, link.linkname = tarfile.SYMTYPE, '../..'
            archive.addfile(link)
        member = tarfile.TarInfo(names.get(kind, 'a/b'))
        member.size = 1
        archive.addfile(member, io.BytesIO(b'x'))
    return buffer.getvalue()


@pytest.mark.parametrize('kind', ['up', 'absolute', 'windows', 'drive', 'zip'])
def test_nothing_is_written_outside_of_the_folder(kind: str, tmp_path: Path) -> None:
    (tmp_path / 'archive').write_bytes(hostile(kind))
    (tmp_path / 'root').mkdir()
    with pytest.raises(UserError, match=r'outside\.txt, which would be written outside of its folder'):
        archives.unpack(tmp_path / 'archive', tmp_path / 'root')
    assert sorted(path.name for path in tmp_path.rglob('*')) == ['archive', 'root']


def test_links_are_not_written_and_not_followed(tmp_path: Path) -> None:
    for kind in ('link', 'linked file'):
        (tmp_path / kind).write_bytes(hostile(kind))
        (root := tmp_path / f'{kind} root').mkdir()
        archives.unpack(tmp_path / kind, root)
        assert (root / 'a/b').read_bytes() == b'x' and not (root / 'a').is_symlink()
    (root / 'a/b').unlink()
    (root / 'a').rmdir()
    (root / 'a').symlink_to(tmp_path)  # there before
    with pytest.raises(UserError, match='outside of .*, through a link'):
        archives.unpack(tmp_path / 'link', root)
    assert not (tmp_path / 'b').exists()


def test_the_command_needs_nothing_but_the_standard_library_to_download(tmp_path: Path) -> None:
    code = f'import sys; sys.path.insert(0, {str(ROOT)!r}); from sparse_rcnn_mm.cli.download_voc import main; '\
           f'main(["--root", {str(tmp_path)!r}, "--mirror", "http://127.0.0.1:1"])'
    done = subprocess.run([sys.executable, '-I', '-S', '-c', code], capture_output=True, text=True, timeout=60)
    assert 'DownloadError: cannot download http://127.0.0.1:1/voc2007/VOCtrainval_06-Nov-2007.tar' in done.stderr


@pytest.mark.parametrize('name', ['sparse_rcnn_r50_voc0712', 'queryinst_r50_voc2012'])
def test_the_configs_find_what_is_written(name: str, tmp_path: Path) -> None:
    write_voc(tmp_path, IMAGES)
    kit = tmp_path / 'VOCdevkit'
    truth = write_voc(tmp_path / 'more', 4, seed=1)
    (tmp_path / 'more/VOCdevkit/VOC2012').rename(kit / 'VOC2007')
    for path in (kit / 'VOC2007').rglob('2012_*'):
        path.rename(path.with_name(path.name.replace('2012_', '')))
    for path in (kit / 'VOC2007').rglob('*.txt'):
        path.write_text(path.read_text().replace('2012_', ''))
    (kit / 'VOC2007/ImageSets/Main/val.txt').rename(kit / 'VOC2007/ImageSets/Main/test.txt')
    (kit / 'VOC2007/ImageSets/Main/train.txt').rename(kit / 'VOC2007/ImageSets/Main/trainval.txt')
    lines = list(write_annotations(tmp_path))
    assert len(lines) == 4 and not any('not written' in line for line in lines)

    init_default_scope('sparse_rcnn_mm')
    config = Config.fromfile(CONFIGS / f'{name}.py')
    counts = {}
    for part in ('train', 'test'):
        dataset = config[f'{part}_dataloader'].dataset
        dataset.data_root = f'{tmp_path}/'
        built = DATASETS.build(dataset)
        counts[part] = len(built)
        assert all(len(built[index]['data_samples'].gt_instances.bboxes) for index in range(len(built)))
    assert counts == ({'train': 2 + IMAGES, 'test': 2} if 'sparse' in name else {'train': 2, 'test': 2})
    for evaluator in config.test_evaluator:
        evaluator.ann_file = evaluator.ann_file.replace('data/voc', str(tmp_path))
        METRICS.build(evaluator).dataset_meta = built.metainfo
    coco = json.loads((tmp_path / 'annotations/voc2007_test.json').read_text())
    names = {one['id']: one['name'] for one in coco['categories']}
    test = [truth[stem] for stem in ('2012_000001', '2012_000003')]
    assert [names[one['category_id']] for one in coco['annotations']] == [one.name for things in test for one in things]
    assert [one['iscrowd'] for one in coco['annotations']] == [int(one.difficult) for things in test for one in things]
