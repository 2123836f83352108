"""Connects the processes of a training under torchrun, also after torchrun restarted them.

torchrun keeps one store for all its restarts. The addresses of processes that have died stay in it, so a process that
starts early reads them and connects to nobody: gloo ends in "Connection refused", and NCCL waits. (PyTorch put the
number of restarts before the keys, which is not the same on all nodes: pytorch/pytorch#135712.) Here the first process
chooses a new prefix, and all agree on it before they connect.
"""
from __future__ import annotations

import os
import time
import uuid
from datetime import timedelta
from typing import Any

from torch.distributed import PrefixStore, Store
from torch.distributed.constants import default_pg_timeout
from torch.distributed.rendezvous import rendezvous

from sparse_rcnn_mm.errors import UserError

_ROOM = 'sparse_rcnn_mm/room'
_POLL = 0.02  # seconds


def met(timeout: timedelta = default_pg_timeout) -> dict[str, Any]:
    """Return the arguments of `init_process_group` that connect exactly the processes that run now.

    Empty without torchrun: then no store is shared with earlier processes.

    Raises:
        UserError: not all processes came within `timeout`.
    """
    if os.environ.get('TORCHELASTIC_USE_AGENT_STORE') != 'True':
        return {}
    store, rank, world_size = next(iter(rendezvous('env://', timeout=timeout)))
    try:
        room = open_room(store, world_size, timeout) if rank == 0 else enter_room(store, rank, timeout)
    except RuntimeError as error:  # torch's DistError
        raise UserError(f'the {world_size} processes of this training did not meet ({str(error).splitlines()[0]}): see '
                        'the message of the process that ended first') from error
    return {'store': PrefixStore(room, store), 'rank': rank, 'world_size': world_size}


def open_room(store: Store, world_size: int, timeout: timedelta = default_pg_timeout) -> str:
    """The first process: offer a new prefix, and return it when all others took it."""
    room = f'{_ROOM}/{uuid.uuid4().hex}'
    store.set(_ROOM, room)
    guests = [f'{room}/{rank}' for rank in range(1, world_size)]
    if guests:
        store.wait(guests, timeout)
    store.set(f'{room}/open', ' '.join(store.get(guest).decode() for guest in guests))
    return room


def enter_room(store: Store, rank: int, timeout: timedelta = default_pg_timeout) -> str:
    """Another process: take the prefix that is offered, and return it when the first process saw that.

    An offer of a process that has died is never confirmed to this one, whose name is new.
    """
    name, end = uuid.uuid4().hex, time.monotonic() + timeout.total_seconds()
    store.wait([_ROOM], timeout)
    while time.monotonic() < end:
        room = store.get(_ROOM).decode()
        store.set(f'{room}/{rank}', name)
        if store.check([f'{room}/open']) and name in store.get(f'{room}/open').decode().split():
            return room
        time.sleep(_POLL)
    raise RuntimeError(f'process 0 was not there within {timeout.total_seconds():g} s')
