"""Published weights: from a server on this machine that breaks off, refuses and serves wrong bytes."""
from __future__ import annotations

import hashlib
import io
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import mmdet
import pytest
import torch
import yaml
from mmengine.config import Config
from mmengine.hub import get_config
from mmengine.registry import DefaultScope
from mmengine.runner import CheckpointLoader

from sparse_rcnn_mm.checkpoints import read_checkpoint, weights
from sparse_rcnn_mm.checkpoints.weights import NAMES, OFFICIAL, ZOO, fetched, local_checkpoint, published_config
from sparse_rcnn_mm.config_files import FOLDER, find_config
from sparse_rcnn_mm.errors import UserError
from sparse_rcnn_mm.inference import Detector
from sparse_rcnn_mm.registry import MODELS
from tests.kit import ROOT
from tests.kit.file_server import FileServer, serving


def file_of(contents: dict) -> bytes:
    buffer = io.BytesIO()
    torch.save(contents, buffer)
    return buffer.getvalue()


BODY = file_of({'state_dict': {'weight': torch.arange(20000.)}})
NAME = f'model-{hashlib.sha256(BODY).hexdigest()[:8]}.pth'


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FileServer]:
    """The server, and an empty cache in `tmp_path`."""
    monkeypatch.setenv('no_proxy', '127.0.0.1')
    monkeypatch.setenv('TORCH_HOME', str(tmp_path))
    with serving(BODY) as running:
        yield running


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / 'hub' / 'checkpoints'


def files(cache: Path) -> list[str]:
    return sorted(path.name for path in cache.iterdir() if path.suffix != '.lock')


def test_fetched_once_with_progress(server: FileServer, cache: Path, capsys: pytest.CaptureFixture) -> None:
    for _ in range(2):
        assert fetched(server.url(f'{NAME}?download=1')) == cache / NAME
    assert (cache / NAME).read_bytes() == BODY
    assert (server.asked, files(cache)) == ([None], [NAME])
    assert f'{NAME}: 100.0% of 0.1 MB' in capsys.readouterr().err


def test_mmengine_and_every_reader_take_an_address(server: FileServer) -> None:
    for read in (read_checkpoint, CheckpointLoader.load_checkpoint):
        assert read(server.url(NAME))['state_dict']['weight'].tolist() == list(range(20000))
    assert server.asked == [None]


def test_goes_on_by_itself_where_the_connection_broke(server: FileServer, cache: Path) -> None:
    server.limit = 30000
    fetched(server.url(NAME))
    assert server.asked == [None, 'bytes=30000-', 'bytes=60000-']
    assert (cache / NAME).read_bytes() == BODY


def test_goes_on_from_an_earlier_run(server: FileServer, cache: Path) -> None:
    cache.mkdir(parents=True)
    (cache / f'{NAME}.partial').write_bytes(BODY[:12345])
    fetched(server.url(NAME))
    assert (server.asked, files(cache)) == (['bytes=12345-'], [NAME])
    assert (cache / NAME).read_bytes() == BODY


def test_an_earlier_run_that_ended_before_the_check(server: FileServer, cache: Path) -> None:
    cache.mkdir(parents=True)
    (cache / f'{NAME}.partial').write_bytes(BODY)
    fetched(server.url(NAME))
    assert (server.asked, files(cache)) == ([f'bytes={len(BODY)}-'], [NAME])


@pytest.mark.parametrize('attribute', ['ranges', 'tells_length'])
def test_plain_servers(server: FileServer, cache: Path, attribute: str) -> None:
    """One that knows no ranges starts anew; one that does not say the length is read to the end."""
    setattr(server, attribute, False)
    cache.mkdir(parents=True)
    (cache / f'{NAME}.partial').write_bytes(BODY[:777])
    fetched(server.url(NAME))
    assert (cache / NAME).read_bytes() == BODY


def test_a_wrong_sum_leaves_nothing_behind(server: FileServer, cache: Path) -> None:
    server.body = BODY[:-1] + b'!'
    with pytest.raises(UserError, match=rf'{NAME} is damaged .* instead of {NAME[6:14]}\) and was deleted') as caught:
        fetched(server.url(NAME))
    assert '\n' not in str(caught.value)
    assert files(cache) == []
    server.body = BODY
    assert fetched(server.url(NAME)).read_bytes() == BODY


def test_a_name_without_a_sum_is_taken_as_it_comes(server: FileServer) -> None:
    server.body = file_of({'other': torch.ones(1)})
    for name in ('resnet50.pth', 'model-of-the-day.pth', 'x-20201222.pth'[:-12] + '.pth'):
        assert fetched(server.url(name)).name == name


def test_an_address_without_a_file(cache: Path) -> None:
    with pytest.raises(UserError, match='https://x.org/ is not the address of a file'):
        fetched('https://x.org/')
    assert not cache.exists()


def test_gone(server: FileServer, cache: Path) -> None:
    server.status = 404
    with pytest.raises(UserError, match='HTTP Error 404: Not Found.*: the address is wrong, or the file no longer'):
        fetched(server.url(NAME))
    assert files(cache) == []


def test_offline(server: FileServer, cache: Path) -> None:
    server.limit = 40000
    server.shutdown()
    server.server_close()
    cache.mkdir(parents=True)
    (cache / f'{NAME}.partial').write_bytes(BODY[:50000])
    with pytest.raises(UserError, match='run the same command again, which resumes after') as caught:
        fetched(server.url(NAME))
    assert '\n' not in str(caught.value) and 'refused' in str(caught.value)
    assert (cache / f'{NAME}.partial').read_bytes() == BODY[:50000]


def test_a_cache_that_cannot_be_written(server: FileServer, cache: Path) -> None:
    cache.parent.mkdir(parents=True)
    cache.write_text('a file in its place')
    with pytest.raises(UserError, match='cannot be kept in .*: set TORCH_HOME'):
        fetched(server.url(NAME))


def test_several_processes_fetch_once(server: FileServer, cache: Path) -> None:
    code = ('import sys\nfrom sparse_rcnn_mm.checkpoints import read_checkpoint\n'
            "print(read_checkpoint(sys.argv[1])['state_dict']['weight'].sum().item())")
    server.limit = 30000  # each has to come back several times
    running = [subprocess.Popen([sys.executable, '-c', code, server.url(NAME)], cwd=ROOT, text=True,
                                stdout=subprocess.PIPE) for _ in range(3)]
    assert [process.communicate(timeout=120)[0] for process in running] == ['199990000.0\n'] * 3
    assert len(server.asked) == 3
    assert files(cache) == [NAME]


def test_names_addresses_and_files() -> None:
    """The five are those of mmdet's own list, and each fits the config that is named with it."""
    listed = Path(mmdet.__file__).parent / '.mim/configs/sparse_rcnn/metafile.yml'
    theirs = {model['Name']: model for model in yaml.safe_load(listed.read_text())['Models']}
    assert {one.mmdet_name: one.url for one in ZOO} == {name: model['Weights'] for name, model in theirs.items()}
    assert [one.box_ap for one in ZOO] == [theirs[one.mmdet_name]['Results'][0]['Metrics']['box AP'] for one in ZOO]
    for one in ZOO:
        ours, mmdets = (Config.fromfile(path) for path in (
            find_config(one.config), listed.parents[2] / theirs[one.mmdet_name]['Config']))
        with torch.device('meta'):
            states = []
            for scope, cfg in (('sparse_rcnn_mm', ours), ('mmdet', mmdets)):
                with DefaultScope.overwrite_default_scope(scope):
                    states.append(MODELS.build(cfg.model).state_dict())
        assert {k: v.shape for k, v in states[0].items()} == {k: v.shape for k, v in states[1].items()}


def test_the_hub_of_mmengine_knows_them() -> None:
    listed = yaml.safe_load((FOLDER.parents[1] / 'metafile.yml').read_text())['Models']
    assert [(model['Name'], model['Weights'], model['Results'][0]['Metrics']['box AP']) for model in listed] == [
        (one.config, one.url, one.box_ap) for one in ZOO]
    found = get_config('sparse_rcnn_mm::configs/sparse_rcnn_r101_3x.py', pretrained=True)
    assert (found.model.backbone.depth, found.model_path) == (101, NAMES['sparse_rcnn_r101_3x'].url)


def test_what_is_no_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=re.escape("sparse_rcnn_r50_x3 (did you mean 'sparse_rcnn_r50_3x'?)")):
        local_checkpoint('sparse_rcnn_r50_x3')
    with pytest.raises(UserError, match='there is no checkpoint nowhere/epoch_12.pth$'):
        local_checkpoint('nowhere/epoch_12.pth')
    for name in OFFICIAL:
        with pytest.raises(UserError, match=f'{name} on a drive: download it .* sparse-rcnn convert {name}.pth'):
            local_checkpoint(name)
    Path('sparse_rcnn_r50_3x').write_bytes(BODY)  # a file of that name comes first
    assert local_checkpoint('sparse_rcnn_r50_3x').read_bytes() == BODY
    assert published_config('sparse_rcnn_r50_3x') is None
    assert published_config('sparse-rcnn_r50_fpn_1x_coco') == published_config(ZOO[0].url) == 'sparse_rcnn_r50_1x'


def test_a_detector_by_name(server: FileServer, contents: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    """Zoo files hold mmdet 2.x metadata and no config that is used: the model comes from our config."""
    plain = {'state_dict': contents['state_dict'], 'meta': {'CLASSES': tuple('abcdefghij'), 'config': 'exit()'}}
    server.body = file_of(plain)
    monkeypatch.setattr(weights, 'SITE', server.url('zoo'))
    monkeypatch.setitem(NAMES, 'digits', weights.Weights('sparse_rcnn_r18_digits', 'x', 'digits.pth', 0.))
    detector = Detector.from_checkpoint('digits', device='cpu', fast=False)
    assert detector.classes == tuple('abcdefghij')
    loaded = detector.backend.model.state_dict()
    assert all(torch.equal(value, contents['state_dict'][name]) for name, value in loaded.items())
    assert server.asked == [None]
