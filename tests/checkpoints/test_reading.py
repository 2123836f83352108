"""Files from outside are data: what mmengine writes is read, anything that could run code is refused."""
import io
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer
from mmengine.runner import CheckpointLoader

from sparse_rcnn_mm.checkpoints import Metadata, read_checkpoint, state_dict_of
from sparse_rcnn_mm.errors import UserError


class Marker:
    """Leaves a file behind if it is ever unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.path),)


def history() -> HistoryBuffer:
    buffer = HistoryBuffer()
    for value in (3., 4., 8.):
        buffer.update(value)
    return buffer


def mmengine_checkpoint() -> dict:
    return dict(
        meta=dict(epoch=1, cfg='x = 1', dataset_meta=dict(CLASSES=('cat', 'dog'))),
        state_dict={'module.a': torch.arange(3.)},
        message_hub=dict(log_scalars={'train/loss': history()}, resumed_keys={'train/loss': True},
                         runtime_info=dict(iter=np.int64(7), best=np.float64(0.5), flag=np.bool_(True),
                                           row=np.ones(2))))


def test_what_mmengine_saves_is_read(tmp_path):
    torch.save(mmengine_checkpoint(), tmp_path / 'a.pth')
    checkpoint = read_checkpoint(tmp_path / 'a.pth')
    buffer = checkpoint['message_hub']['log_scalars']['train/loss']
    assert (buffer.mean(), buffer.min(), buffer.statistics('max'), buffer.current()) == (5., 3., 8., 8.)
    info = checkpoint['message_hub']['runtime_info']
    assert (info['iter'], info['best'], info['flag'], info['row'].tolist()) == (7, 0.5, True, [1., 1.])
    assert state_dict_of(checkpoint)['a'].tolist() == [0., 1., 2.]
    assert Metadata.of(checkpoint, 'a.pth').classes == ('cat', 'dog')


def test_arrays_written_by_the_other_numpy_are_read(tmp_path):
    """numpy 1 and 2 name their pickles by the path of their own core module."""
    torch.save(mmengine_checkpoint(), tmp_path / 'a.pth', _use_new_zipfile_serialization=False)
    contents = (tmp_path / 'a.pth').read_bytes()
    old, new = b'cnumpy.core.multiarray\n', b'cnumpy._core.multiarray\n'
    assert (old in contents) != (new in contents)
    (tmp_path / 'b.pth').write_bytes(contents.replace(new, old) if new in contents else contents.replace(old, new))
    buffer = read_checkpoint(tmp_path / 'b.pth')['message_hub']['log_scalars']['train/loss']
    assert buffer.mean() == 5.


@pytest.mark.parametrize('name', ['evil.pth', 'evil.pkl'])
@pytest.mark.parametrize('read', [read_checkpoint, lambda path: CheckpointLoader.load_checkpoint(str(path), 'cpu')])
def test_code_in_a_file_is_refused_and_does_not_run(tmp_path, name, read):
    """By our reader, and by all of mmengine, whose own falls back to unsafe loading."""
    contents = dict(model={'a': np.ones(2) if name.endswith('pkl') else torch.ones(2)}, x=Marker(tmp_path / 'ran'))
    if name.endswith('pkl'):
        (tmp_path / name).write_bytes(pickle.dumps(contents))
    else:
        torch.save(contents, tmp_path / name)
    with pytest.raises(UserError, match=r'contains more than data \((posix|nt)\.mkdir\)'):
        read(tmp_path / name)
    assert not (tmp_path / 'ran').exists()


@pytest.mark.parametrize(('name', 'contents', 'message'), [
    ('a.pth', b'not a checkpoint', 'not a checkpoint, or is damaged'),
    ('a.pkl', b'\x80\x02}q\x00(X', 'not a checkpoint, or is damaged'),
    ('a.pkl', pickle.dumps([1, 2]), 'contains a list, not a checkpoint'),
    ('a.pth', None, 'there is no checkpoint'),
])
def test_other_files_are_told_in_one_sentence(tmp_path, name, contents, message):
    if contents is not None:
        (tmp_path / name).write_bytes(contents)
    with pytest.raises(UserError, match=message) as caught:
        read_checkpoint(tmp_path / name)
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize(('function', 'arguments'), [('torch.load', ()), ('zipfile.ZipFile.testzip', (5, 'gone'))])
def test_a_disk_that_fails(tmp_path, monkeypatch, function, arguments):
    def fails(*args, **kwargs):
        raise OSError(*arguments)

    torch.save(mmengine_checkpoint(), tmp_path / 'a.pth')
    monkeypatch.setattr(function, fails)
    with pytest.raises(UserError, match=r'a\.pth cannot be read: '):
        read_checkpoint(tmp_path / 'a.pth')


def test_half_a_file_is_damaged(tmp_path):
    torch.save(mmengine_checkpoint(), tmp_path / 'a.pth')
    whole = (tmp_path / 'a.pth').read_bytes()
    (tmp_path / 'a.pth').write_bytes(whole[:len(whole) // 2])
    with pytest.raises(UserError, match='damaged'):
        read_checkpoint(tmp_path / 'a.pth')


def test_pickles_of_detectron2_become_tensors(tmp_path):
    stream = io.BytesIO()
    pickle.dump(dict(model={'a.weight': np.arange(6, dtype=np.float32).reshape(2, 3), 'n': np.int64(3)},
                     __author__='x', matching_heuristics=True), stream, protocol=2)
    (tmp_path / 'a.pkl').write_bytes(stream.getvalue())
    state = state_dict_of(read_checkpoint(tmp_path / 'a.pkl'))
    assert torch.equal(state['a.weight'], torch.arange(6.).reshape(2, 3)) and state['n'].item() == 3


@pytest.mark.parametrize('read', [read_checkpoint, lambda path: CheckpointLoader.load_checkpoint(str(path), 'cpu')])
def test_the_text_that_mmengine_would_run_is_dropped(tmp_path, read):
    """mmengine's Runner runs `meta['config']` when it resumes."""
    torch.save(dict(meta=dict(config='raise SystemExit', cfg='x = 1')), tmp_path / 'a.pth')
    assert read(tmp_path / 'a.pth')['meta'] == dict(cfg='x = 1')


def test_importing_the_package_is_enough(tmp_path):
    """A script that only imports us and mmengine resumes safely."""
    torch.save(mmengine_checkpoint(), tmp_path / 'a.pth')
    torch.save(dict(x=Marker(tmp_path / 'ran')), tmp_path / 'evil.pth')
    script = ('import sys, sparse_rcnn_mm\nfrom mmengine.runner import CheckpointLoader\n'
              'CheckpointLoader.load_checkpoint(sys.argv[1])\n'
              'try: CheckpointLoader.load_checkpoint(sys.argv[2])\n'
              'except sparse_rcnn_mm.errors.UserError: print("refused")')
    result = subprocess.run([sys.executable, '-c', script, tmp_path / 'a.pth', tmp_path / 'evil.pth'],
                            capture_output=True, text=True, check=True)
    assert result.stdout.endswith('refused\n') and not (tmp_path / 'ran').exists()


@pytest.mark.parametrize('change', [
    torch.Tensor.to_sparse, torch.Tensor.to_sparse_csr, lambda weight: weight.to('meta'),
    lambda weight: weight.to(torch.complex64), lambda weight: torch.quantize_per_tensor(weight, 0.1, 0, torch.qint8),
    lambda weight: torch.nested.nested_tensor([weight[0], weight[1]]),
])
@pytest.mark.filterwarnings('ignore')
def test_weights_that_are_not_numbers_in_memory(tmp_path, change):
    torch.save(dict(state_dict={'a.weight': change(torch.ones(2, 3))}), tmp_path / 'a.pth')
    with pytest.raises(UserError, match=r'a\.pth (contains the weight a\.weight|is not a checkpoint|was not loaded)'):
        read_checkpoint(tmp_path / 'a.pth')


@pytest.mark.parametrize('name', ['open-mmlab://mmdet/mobilenet_v2', 'mmcls://mobilenet_v2'])
def test_names_of_mmengine_run_no_code(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """mmengine loads what it downloads by such a name without safety."""
    from mmengine.runner.checkpoint import get_external_models, get_mmcls_models

    address = {**get_mmcls_models(), **get_external_models()}[name.partition('://')[2]]
    monkeypatch.setenv('TORCH_HOME', str(tmp_path))
    (tmp_path / 'hub/checkpoints').mkdir(parents=True)
    torch.save(dict(state_dict={'a': torch.ones(1)}, x=Marker(tmp_path / 'ran')),
               tmp_path / 'hub/checkpoints' / Path(address).name)
    with pytest.raises(UserError, match='contains more than data'):
        CheckpointLoader.load_checkpoint(name)
    assert not (tmp_path / 'ran').exists()


def test_every_scheme_of_mmengine_runs_no_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name in the list of the user may be a file in mmengine's folder; storage is asked by no unsafe loader."""
    monkeypatch.setenv('MMENGINE_HOME', str(tmp_path))
    (tmp_path / 'open_mmlab.json').write_text('{"mine": "bad.pth"}')
    torch.save(dict(state_dict={'a': torch.ones(1)}, x=Marker(tmp_path / 'ran')), tmp_path / 'bad.pth')
    with pytest.raises(UserError, match=r'bad\.pth was not loaded'):
        CheckpointLoader.load_checkpoint('open-mmlab://mine')
    for address in ('s3://bucket/a.pth', 'open-mmlab:s3://bucket/a.pth', 'petrel://a.pth', 'pavi://a'):
        with pytest.raises(UserError, match='copy the file'):
            CheckpointLoader.load_checkpoint(address)
    left = {loader.__name__ for loader in CheckpointLoader._schemes.values()
            if loader.__module__ == 'mmengine.runner.checkpoint'}
    assert left == {'load_from_torchvision', 'load_from_mmcls'}  # they call `load_from_http`, which is replaced
    assert not (tmp_path / 'ran').exists()
