"""Checkpoint files: whole or not there, and checked when they are read."""
from __future__ import annotations

import os
import random
import resource
import signal
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from sparse_rcnn_mm.checkpoints import (
    newest_checkpoint,
    read_checkpoint,
    remove_unfinished,
    write_checkpoint,
    write_text,
)
from sparse_rcnn_mm.checkpoints.writing import not_finite
from sparse_rcnn_mm.errors import UserError
from tests.kit import ROOT


def contents_of(iteration: int, optimizer: bool = True) -> dict:
    generator = torch.Generator().manual_seed(iteration)
    contents = {'state_dict': {'w': torch.randn(300, generator=generator)}, 'meta': {'iter': iteration, 'epoch': 0},
                'message_hub': {}}
    return contents | ({'optimizer': {'state': {}}} if optimizer else {})


def weights(path: Path) -> torch.Tensor:
    return read_checkpoint(path)['state_dict']['w']


def test_every_flipped_bit_is_found_or_does_no_harm(tmp_path: Path) -> None:
    """400 random single bits of a file: an error, or the same contents (padding and dates are not checked)."""
    good = tmp_path / 'good.pth'
    write_checkpoint(contents_of(1), good)
    data, wanted = good.read_bytes(), contents_of(1)
    draw = random.Random(0)
    found = 0
    for _ in range(400):
        flipped = bytearray(data)
        flipped[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
        (tmp_path / 'bad.pth').write_bytes(flipped)
        try:
            contents = read_checkpoint(tmp_path / 'bad.pth')
        except UserError as error:
            assert 'damaged' in str(error) and '\n' not in str(error)  # noqa: PT017 (loading may succeed, too)
            found += 1
        else:
            assert torch.equal(contents.pop('state_dict')['w'], wanted['state_dict']['w'])
            assert contents == {key: value for key, value in wanted.items() if key != 'state_dict'}
    print(f'reliability: {found} of 400 flipped bits were found, the others changed nothing')
    assert found > 100


def test_a_flipped_bit_of_a_weight_is_found(tmp_path: Path) -> None:
    """0.19 becomes 6.5e37, which torch.load takes."""
    path = tmp_path / 'a.pth'
    write_checkpoint({'state_dict': {'w': torch.tensor([0.19])}}, path)
    data = bytearray(path.read_bytes())
    place = data.index(torch.tensor([0.19]).numpy().tobytes())
    data[place + 3] ^= 0x40
    path.write_bytes(data)
    assert torch.load(path, weights_only=True)['state_dict']['w'].item() > 1e37
    with pytest.raises(UserError, match='damaged'):
        read_checkpoint(path)


KILLED = """
import os, signal, sys, torch
from sparse_rcnn_mm.checkpoints import write_checkpoint
moment, path = sys.argv[1:]
def die(*args): os.kill(os.getpid(), signal.SIGKILL)
if moment == 'fsync': os.fsync = die
elif moment == 'replace': os.replace = die
else:
    class Half(dict):
        def __reduce__(self): die()
write_checkpoint({'state_dict': {'w': torch.zeros(300)}, 'x': Half() if moment == 'half' else 0}, path)
"""


@pytest.mark.parametrize('moment', ['half', 'fsync', 'replace'])
def test_killed_while_it_writes(tmp_path: Path, moment: str) -> None:
    """The file of that name is the old one; what was left lying about is removed by the next training."""
    path = tmp_path / 'iter_1.pth'
    write_checkpoint(contents_of(1), path)
    environment = {**os.environ, 'PYTHONPATH': str(ROOT)}
    done = subprocess.run([sys.executable, '-c', KILLED, moment, str(path)], env=environment, capture_output=True)
    assert done.returncode == -signal.SIGKILL
    assert torch.equal(weights(path), contents_of(1)['state_dict']['w'])
    assert len(list(tmp_path.iterdir())) == 2
    remove_unfinished(tmp_path)
    assert [found.name for found in tmp_path.iterdir()] == ['iter_1.pth']


def test_a_full_disk(tmp_path: Path) -> None:
    """One sentence, no half file, the old one intact. A limit on the size of files stands for the disk."""
    path = tmp_path / 'iter_1.pth'
    write_checkpoint(contents_of(1), path)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(UserError, match=r'1.pth cannot be written \(File too large; \d+ MB are free') as caught:
            write_checkpoint({'state_dict': {'w': torch.zeros(1_000_000)}}, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert '\n' not in str(caught.value)
    assert torch.equal(weights(path), contents_of(1)['state_dict']['w'])
    assert [found.name for found in tmp_path.iterdir()] == ['iter_1.pth']


def test_a_folder_that_is_not_there_is_made(tmp_path: Path) -> None:
    write_checkpoint(contents_of(1), tmp_path / 'new/er/a.pth')
    assert read_checkpoint(tmp_path / 'new/er/a.pth')
    (tmp_path / 'none').write_text('')
    with pytest.raises(UserError, match=r'a\.pth cannot be written \((File exists|Not a directory);'):
        write_checkpoint(contents_of(1), tmp_path / 'none/a.pth')


def test_an_error_of_torch_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*args: Any) -> None:
        raise RuntimeError('unexpected pos 64\nframe #0')

    monkeypatch.setattr(torch, 'save', fails)
    with pytest.raises(UserError, match=r'a\.pth cannot be written \(unexpected pos 64; \d+ MB are free there\): no'):
        write_checkpoint({}, tmp_path / 'a.pth')
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('refused', ['open', 'fsync'])
def test_a_system_that_cannot_flush_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: str) -> None:
    original = getattr(os, refused)

    def of_files_only(place: Any, *arguments: Any) -> Any:
        if Path(place).is_dir() if refused == 'open' else stat.S_ISDIR(os.fstat(place).st_mode):
            raise PermissionError
        return original(place, *arguments)

    monkeypatch.setattr(os, refused, of_files_only)
    before = len(os.listdir('/proc/self/fd')) if os.path.isdir('/proc/self/fd') else 0
    write_checkpoint(contents_of(1), tmp_path / 'a.pth')
    assert torch.equal(weights(tmp_path / 'a.pth'), contents_of(1)['state_dict']['w'])
    assert (len(os.listdir('/proc/self/fd')) if before else 0) == before


def test_numbers_that_are_not_finite_are_named() -> None:
    nan, inf = torch.tensor([1., float('nan')]), torch.tensor([[float('-inf')], [0.]])
    contents = {'model': {'a': nan, 'b': torch.ones(2), 'c': torch.zeros(0), 'n': torch.arange(3)},
                'optimizer': {'state': {7: (torch.ones(1), inf.half())}, 'groups': [{'lr': float('nan')}]}}
    assert not_finite(contents) == ['model.a', 'optimizer.state.7.1']
    assert not_finite(nan, 'w') == ['w'] and not_finite(inf, 'w') == ['w']


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A work dir with checkpoints of iterations 9 and 10, weights for inference, and the usual `last_checkpoint`."""
    for iteration in (9, 10):
        write_checkpoint(contents_of(iteration), tmp_path / f'iter_{iteration}.pth')
    write_checkpoint(contents_of(11, optimizer=False), tmp_path / 'best_iter_11.pth')
    write_text(str(tmp_path / 'iter_10.pth'), tmp_path / 'last_checkpoint')
    return tmp_path


def newest(folder: Path) -> tuple[str | None, list[str]]:
    said: list[str] = []
    found = newest_checkpoint(folder, said.append)
    return (None if found is None else found[0].name), said


@pytest.mark.parametrize('hint', [None, '', 'iter_', '\0', '/nowhere/iter_99.pth', b'\xff\xfe', 'iter_9.pth', '.', '/'])
def test_the_files_decide_whatever_last_checkpoint_says(folder: Path, hint: str | bytes | None) -> None:
    path = folder / 'last_checkpoint'
    path.unlink()
    if hint is not None:
        path.write_bytes(hint if isinstance(hint, bytes) else hint.encode())
    assert newest(folder) == ('iter_10.pth', [])


def test_a_copied_work_dir_is_gone_on_from_itself(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    other = tmp_path_factory.mktemp('other')
    write_checkpoint(contents_of(500), other / 'iter_500.pth')
    write_text(str(other / 'iter_500.pth'), folder / 'last_checkpoint')
    assert newest(folder) == ('iter_10.pth', [])
    for path in folder.glob('*.pth'):
        path.unlink()
    assert newest(folder)[0] == 'iter_500.pth'  # written elsewhere, by CheckpointHook's out_dir


@pytest.mark.parametrize('damage', ['cut', 'flipped', 'empty', 'text'])
def test_a_damaged_newest_one_is_said_and_the_one_before_taken(folder: Path, damage: str) -> None:
    path = folder / 'iter_10.pth'
    data = path.read_bytes()
    place = data.index(contents_of(10)['state_dict']['w'].numpy().tobytes()[:64])
    path.write_bytes({'cut': data[:len(data) // 2], 'empty': b'', 'text': b'no checkpoint',
                      'flipped': data[:place] + bytes([data[place] ^ 1]) + data[place + 1:]}[damage])
    name, said = newest(folder)
    assert name == 'iter_9.pth'
    assert len(said) == 1 and 'iter_10.pth is not a checkpoint, or is damaged' in said[0]


def test_nothing_to_go_on_from(tmp_path: Path) -> None:
    assert newest(tmp_path) == (None, [])
    write_checkpoint(contents_of(11, optimizer=False), tmp_path / 'best_iter_11.pth')
    with pytest.raises(UserError, match='of 1 checkpoints, none is intact and has optimizer state'):
        newest(tmp_path)
