"""Published models: a folder or a hub gives the same detector again, and what a folder says is checked."""
from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sparse_rcnn_mm.checkpoints import read_checkpoint
from sparse_rcnn_mm.checkpoints.hub import published_text, pull, push
from sparse_rcnn_mm.checkpoints.stored_config import StoredConfig
from sparse_rcnn_mm.cli import convert
from sparse_rcnn_mm.errors import UserError
from sparse_rcnn_mm.inference import Detector
from tests.checkpoints.test_reading import Marker
from tests.kit import CLASSES
from tests.kit.hub_server import HubServer, hub

pytest.importorskip('safetensors')


@pytest.fixture(scope='module')
def published(small_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp('hub') / 'a *small* model'
    convert.main([str(small_checkpoint), '--hub', str(folder)])
    return folder


@pytest.fixture
def copied(published: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(published, tmp_path / 'copy'))


def test_the_folder_gives_the_same_detector(published: Path, small_checkpoint: Path, colored: Any) -> None:
    assert sorted(path.name for path in published.iterdir()) == [
        'README.md', 'config.json', 'config.py', 'model.safetensors']
    one, other = (Detector.from_pretrained(published, device='cpu'),
                  Detector.from_checkpoint(small_checkpoint, device='cpu'))
    assert (one.classes, one.category_ids) == (other.classes, other.category_ids)
    found, wanted = one(colored(1)), other(colored(1))
    assert len(found) and np.array_equal(found.boxes, wanted.boxes) and np.array_equal(found.scores, wanted.scores)


def test_the_card_says_what_it_is(published: Path) -> None:
    card = (published / 'README.md').read_text()
    head = card.split('---')[1]
    assert 'library_name: sparse_rcnn_mm' in head and 'pipeline_tag: object-detection' in head
    assert '# a \\*small\\* model' in card and 'It detects 10 classes: zero, one, two' in card
    assert 'Converted from small.pth' in card
    assert json.loads((published / 'config.json').read_text())['dataset_meta']['classes'] == list(CLASSES)


def test_a_card_with_changes_stays(small_checkpoint: Path, copied: Path, capsys: pytest.CaptureFixture) -> None:
    (copied / 'README.md').write_text('mine')
    convert.main([str(small_checkpoint), '--hub', str(copied)])
    assert (copied / 'README.md').read_text() == 'mine' and 'its README.md was kept' in capsys.readouterr().out


def test_metadata_that_is_no_plain_data_is_one_sentence(small_checkpoint: Path, tmp_path: Path) -> None:
    contents = torch.load(small_checkpoint, weights_only=True)
    contents['meta']['dataset_meta']['held_out'] = torch.ones(2, 2)
    torch.save(contents, tmp_path / 'a.pth')
    for output in (['out.safetensors'], ['--hub', 'hub']):
        with pytest.raises(UserError):
            convert.main([str(tmp_path / 'a.pth'), *(str(tmp_path / one) if one[0] != '-' else one for one in output)])
    assert sorted(path.name for path in tmp_path.iterdir()) == ['a.pth']


def test_nothing_of_the_training_machine_is_published(small_checkpoint: Path) -> None:
    meta = torch.load(small_checkpoint, weights_only=True)['meta']
    here = meta['cfg'].replace('data/digits/', '/home/somebody/secret/').replace(
        'init_cfg=None', "init_cfg=dict(type='Pretrained', checkpoint='/home/somebody/w.pth')")
    text = published_text(StoredConfig.of(here, 'a.pth'))
    assert 'somebody' in here and 'somebody' not in text
    again = StoredConfig.of(text, 'a.pth')
    assert published_text(again) == text and again.model() == StoredConfig.of(meta['cfg'], 'a.pth').model()


@pytest.mark.parametrize(('file', 'text', 'message'), [
    ('config.py', '__import__("os").mkdir("ran")', 'is not plain data'),
    ('config.py', 'model = dict(type=__import__("os").mkdir("ran"))', 'is not plain data'),
    ('config.py', "model = dict(type='os.mkdir', name='ran')", 'which is not registered'),
    ('config.py', "model = dict(type='mmdet.DetInferencer')", 'registered'),
    ('config.py', '', 'contains weights without a config'),
    ('config.py', '\0', 'is not plain data'),
    ('config.json', '{"dataset_meta": {"classes": [1]}}', 'the class names .* are not a list of strings'),
    ('config.json', '[]', 'config.json or config.py cannot be read'),
    ('config.json', '{', 'config.json or config.py cannot be read'),
    ('config.json', '[' * 100_000, 'config.json or config.py cannot be read'),
    ('model.safetensors', 'no weights', 'is not a checkpoint, or is damaged'),
])
def test_what_a_folder_says_is_checked(copied: Path, monkeypatch: pytest.MonkeyPatch, file: str, text: str,
                                       message: str) -> None:
    monkeypatch.chdir(copied.parent)
    (copied / file).write_text(text)
    with pytest.raises(UserError, match=message) as caught:
        Detector.from_pretrained(copied, device='cpu')
    assert '\n' not in str(caught.value)
    assert not Path('ran').exists()


def test_a_pickle_under_the_name_of_the_weights_is_not_read(copied: Path) -> None:
    torch.save({'state_dict': {'a': torch.ones(2)}, 'x': Marker(copied / 'ran')}, copied / 'model.safetensors')
    with pytest.raises(UserError, match='is not a checkpoint, or is damaged'):
        Detector.from_pretrained(copied)
    assert not (copied / 'ran').exists()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    constants = pytest.importorskip('huggingface_hub.constants')
    monkeypatch.setattr(constants, 'HF_HUB_CACHE', str(tmp_path / 'cache'))
    with hub() as running:
        monkeypatch.setenv('HF_ENDPOINT', running.url)
        monkeypatch.setenv('HF_TOKEN', 'hf_token')
        yield running


def test_push_and_pull(server: HubServer, published: Path, small_checkpoint: Path, copied: Path, colored: Any) -> None:
    (copied / 'notes.txt').write_text('not for others')
    assert push(copied, 'somebody/digits') == f'{server.url}/somebody/digits'
    assert sorted(server.models['somebody/digits']) == ['README.md', 'config.json', 'config.py', 'model.safetensors']
    assert server.private == {'somebody/digits'}
    folder = pull('somebody/digits')
    assert (folder / 'model.safetensors').read_bytes() == (published / 'model.safetensors').read_bytes()
    detector = Detector.from_pretrained('somebody/digits', device='cpu')
    wanted = Detector.from_checkpoint(small_checkpoint, device='cpu')(colored(2))
    assert np.array_equal(detector(colored(2)).boxes, wanted.boxes)
    assert read_checkpoint('hf://somebody/digits').keys() == {'state_dict', 'meta'}


def test_models_that_are_not_there(server: HubServer) -> None:
    server.models['somebody/text'] = {'README.md': b'x'}
    for name, message in [('somebody/nothing', 'cannot download the model somebody/nothing from the hub'),
                          ('somebody/text', 'has no model.safetensors'),
                          ('nothing', 'neither a folder with model.safetensors nor the name of a model'),
                          ('a/../b', 'neither a folder')]:
        with pytest.raises(UserError, match=message) as caught:
            Detector.from_pretrained(name)
        assert '\n' not in str(caught.value)


def test_the_token_stays_out_of_messages(server: HubServer, published: Path) -> None:
    server.shutdown()
    server.server_close()
    with pytest.raises(UserError, match='cannot upload') as caught:
        push(published, 'somebody/digits')
    assert os.environ['HF_TOKEN'] not in str(caught.value)
