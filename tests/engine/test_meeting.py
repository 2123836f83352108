"""Processes agree on where they connect, whatever an earlier start left in the store."""
from __future__ import annotations

import threading
from datetime import timedelta

import pytest
from torch.distributed import HashStore

from sparse_rcnn_mm.engine.meeting import enter_room, met, open_room
from sparse_rcnn_mm.engine.runner import Runner

SECONDS = timedelta(seconds=10)


def meet(store: HashStore, late: int, size: int = 3) -> list[str]:
    """The prefixes of `size` processes, of which the one with number `late` comes last."""
    rooms: dict[int, str] = {}

    def start(rank: int) -> None:
        rooms[rank] = open_room(store, size, SECONDS) if rank == 0 else enter_room(store, rank, SECONDS)

    threads = [threading.Thread(target=start, args=(rank,)) for rank in sorted(range(size), key=lambda r: r == late)]
    for thread in threads[:-1]:
        thread.start()
    threads[-2].join(0.2)  # the last one is late, so nobody has gone on
    assert not rooms
    threads[-1].start()
    for thread in threads:
        thread.join()
    return [rooms[rank] for rank in range(size)]


def test_a_restart_never_takes_what_an_earlier_start_left() -> None:
    """Whoever is late: all have one prefix, and each start another one."""
    store = HashStore()
    found = [meet(store, late) for late in (0, 1, 2, 0, 2)]
    assert all(len(set(rooms)) == 1 for rooms in found)
    assert len({rooms[0] for rooms in found}) == len(found)


def test_a_start_that_was_cut_short_is_forgotten() -> None:
    """Processes that died before all had come: their offers and answers are in the store."""
    store = HashStore()
    with pytest.raises(RuntimeError):
        open_room(store, 3, timedelta(seconds=0.1))
    with pytest.raises(RuntimeError, match='process 0 was not there within 0.1 s'):
        enter_room(store, 1, timedelta(seconds=0.1))
    rooms = meet(store, 0)
    assert len(set(rooms)) == 1


def test_one_process_is_a_meeting() -> None:
    assert open_room(HashStore(), 1, SECONDS).startswith('sparse_rcnn_mm/room/')


def test_without_torchrun_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv('TORCHELASTIC_USE_AGENT_STORE', raising=False)
    assert met() == {}


@pytest.mark.parametrize('given', [{}, {'init_method': 'env://'}])
def test_the_runner_passes_it_on(given: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """As on GPUs, where mmengine connects the processes; not if the config says how."""
    passed: list[dict] = []
    monkeypatch.setattr('mmengine.runner.runner.init_dist', lambda launcher, **settings: passed.append(settings))
    monkeypatch.setattr('mmengine.runner.runner.set_multi_processing', lambda **settings: None)
    monkeypatch.setattr('sparse_rcnn_mm.engine.runner.met', lambda: {'store': 'new', 'rank': 1})
    runner = object.__new__(Runner)
    runner._launcher, runner._distributed = 'pytorch', True
    env_cfg = {'dist_cfg': {'backend': 'nccl', **given}}
    runner.setup_env(env_cfg)
    assert passed == [{'backend': 'nccl', **(given or {'store': 'new', 'rank': 1})}]
    assert env_cfg == {'dist_cfg': {'backend': 'nccl', **given}}  # the config that is saved has no store
