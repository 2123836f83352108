"""A validation on the main process that takes longer than a collective operation may."""
from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from torch.distributed import HashStore, TCPStore

from sparse_rcnn_mm.errors import UserError
from sparse_rcnn_mm.evaluation import waiting
from tests.kit import ROOT

# Collective operations end after 2 seconds here, and the work takes 5.
SCRIPT = """
import sys, time, datetime
import torch.distributed as dist
from mmengine.dist import broadcast_object_list
from mmengine.logging import MMLogger
from sparse_rcnn_mm.evaluation import waiting
rank, port = int(sys.argv[1]), int(sys.argv[2])
dist.init_process_group('gloo', init_method=f'tcp://127.0.0.1:{port}', rank=rank, world_size=2,
                        timeout=datetime.timedelta(seconds=2))
MMLogger.get_instance('test', logger_name='test')
waiting.SIGN, waiting.PATIENCE = 1, 3

def work():
    time.sleep(5)
    return {'AP': 0.25, 'rank': rank}

first = waiting.on_main_process(work, 'evaluation')
print(first, waiting.on_main_process(lambda: 'again', 'evaluation'))
try:
    broadcast_object_list([work()] if rank == 0 else [None])
except RuntimeError as error:
    print('without waiting on purpose:', 'Timed out' in str(error))
"""


@pytest.mark.slow
def test_the_others_wait_and_get_the_result(tmp_path: Path) -> None:
    store = TCPStore('127.0.0.1', 0, is_master=True, wait_for_workers=False)
    port = str(store.port)
    del store
    (tmp_path / 'script.py').write_text(SCRIPT)
    environment = {**os.environ, 'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1'}
    processes = [subprocess.Popen([sys.executable, str(tmp_path / 'script.py'), str(rank), port], text=True,
                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=ROOT, env=environment)
                 for rank in range(2)]
    main, other = (process.communicate(timeout=100)[0] for process in processes)
    result = "{'AP': 0.25, 'rank': 0} again"
    assert result in main.splitlines()
    assert main.count('evaluation: 0 minutes so far; the other 1 processes wait') >= 3
    # gloo may add a word about its own end
    assert [line for line in other.splitlines() if line in (result, 'without waiting on purpose: True')] == [
        result, 'without waiting on purpose: True']


def test_a_failure_of_the_main_process_ends_the_others() -> None:
    store = HashStore()
    with pytest.raises(ValueError, match='odd'), waiting._signs_of_life(store, 'key', 'evaluation'):
        raise ValueError('odd')
    with pytest.raises(UserError, match='evaluation: failed in the main process; see its message'):
        waiting._wait(store, 'key', 'evaluation')


def test_signs_of_life_keep_the_others_patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each sign starts the patience anew; without any they give up."""
    now = [0.]
    store = HashStore()
    monkeypatch.setattr(waiting, 'PATIENCE', 60)
    monkeypatch.setattr(waiting.time, 'monotonic', lambda: now[0])

    def sleep(seconds: float) -> None:
        now[0] += 50
        if now[0] <= 200:
            store.add('key/alive', 1)

    monkeypatch.setattr(waiting.time, 'sleep', sleep)
    with pytest.raises(UserError, match='evaluation: no sign of life from the main process for 1 minutes'):
        waiting._wait(store, 'key', 'evaluation')
    assert now[0] == 300  # the last sign at 200, seen at once; at 250 not yet too late


def test_one_process_just_works() -> None:
    assert waiting.on_main_process(lambda: 3, 'evaluation') == 3
