"""Runs long work on the main process only, while the other processes wait without a time limit."""
from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from mmengine.dist import broadcast_object_list, get_world_size, is_main_process
from mmengine.logging import MMLogger
from torch.distributed import distributed_c10d

from sparse_rcnn_mm.errors import UserError

Result = TypeVar('Result')
POLL, SIGN, PATIENCE = 0.5, 60., 900.  # seconds
_calls = itertools.count()  # every process makes the same calls in the same order


def on_main_process(work: Callable[[], Result], name: str) -> Result:
    """Run `work` on the main process and return its result on all.

    A collective operation would fail after the time limit of its backend, which is 10 minutes for NCCL. So the others
    poll torch's store, which has no such limit. Meanwhile the main process sends a sign of life to the log and to the
    others every minute.

    Raises:
        UserError: on the other processes, if `work` failed or there was no sign of life for 15 minutes.
    """
    if get_world_size() == 1:
        return work()
    store, key = distributed_c10d._get_default_store(), f'sparse_rcnn_mm/{name}/{next(_calls)}'
    result: list[Any] = [None]
    if is_main_process():
        with _signs_of_life(store, key, name):
            result = [work()]
    else:
        _wait(store, key, name)
    broadcast_object_list(result)
    return result[0]


@contextmanager
def _signs_of_life(store: Any, key: str, name: str) -> Iterator[None]:
    """Increase `key` every minute, and finally report whether the work succeeded."""
    logger, start, finished = MMLogger.get_current_instance(), time.monotonic(), threading.Event()

    def count_up() -> None:
        while not finished.wait(SIGN):
            store.add(f'{key}/alive', 1)
            logger.info(f'{name}: {(time.monotonic() - start) / 60:.0f} minutes so far; the other '
                        f'{get_world_size() - 1} processes wait')

    thread = threading.Thread(target=count_up, daemon=True)
    thread.start()
    outcome = 'failed'
    try:
        yield
        outcome = 'done'
    finally:
        finished.set()
        thread.join()
        store.set(f'{key}/outcome', outcome)


def _wait(store: Any, key: str, name: str) -> None:
    signs, since = 0, time.monotonic()
    while not store.check([f'{key}/outcome']):
        time.sleep(POLL)
        if (now := store.add(f'{key}/alive', 0)) != signs:
            signs, since = now, time.monotonic()
        elif time.monotonic() - since > PATIENCE:
            raise UserError(f'{name}: no sign of life from the main process for {PATIENCE / 60:.0f} minutes')
    if store.get(f'{key}/outcome') != b'done':
        raise UserError(f'{name}: failed in the main process; see its message')
