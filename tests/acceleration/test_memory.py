"""Memory that stays with the process."""
from __future__ import annotations

import os
import platform
import subprocess
import sys
from types import SimpleNamespace

import pytest
from mmengine.config import Config

from sparse_rcnn_mm.acceleration import memory
from sparse_rcnn_mm.acceleration.prediction import fast_form
from sparse_rcnn_mm.benchmark.workload import build_model, images, samples
from sparse_rcnn_mm.engine.loops import IterBasedTrainLoop

from ..models.samples import tiny_model

PROGRAM = """
import ctypes, resource
import torch
from sparse_rcnn_mm.acceleration.memory import keep_memory

ctypes.CDLL(None).prctl(41, 1, 0, 0, 0)  # PR_SET_THP_DISABLE: pages of one size

def where_from(mebibytes):
    '''Whether a tensor gets new pages from Linux each of several times, or ever those of an earlier one.'''
    pages = []
    for _ in range(1000 // mebibytes):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        torch.ones(mebibytes * 2**18)
        pages.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
    return 'new' if min(pages) * resource.getpagesize() > mebibytes * 2**19 else 'kept'

model = torch.nn.Linear(1, 1)
places = [where_from(50)]
with keep_memory(model):
    torch.ones(2**26)
    places.append(where_from(50))
    with keep_memory(model):
        places.append(where_from(50))
    places.append(where_from(50))
places.append(where_from(400))
try:
    with keep_memory(model):
        raise KeyError
except KeyError:
    places.append(where_from(400))
with keep_memory(model.to('meta')):
    places.append(where_from(400))
print(*places)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != 'glibc', reason='only glibc gives memory back so early')
@pytest.mark.parametrize(('variables', 'inside'), [
    ({}, 'kept'), ({'MALLOC_PERTURB_': '0'}, 'new'), ({'GLIBC_TUNABLES': 'glibc.malloc.perturb=0'}, 'new')])
def test_memory_is_kept_until_the_last_context_ends(variables: dict[str, str], inside: str) -> None:
    others = {name: value for name, value in os.environ.items() if not name.startswith(('MALLOC_', 'GLIBC_', 'THP_'))}
    done = subprocess.run([sys.executable, '-c', PROGRAM], env={**others, **variables}, capture_output=True, text=True,
                          check=False)
    assert done.stdout == f'new {inside} {inside} {inside} new new new\n', done.stderr


def test_steps_and_predictions_keep_memory() -> None:
    seen = []

    def look(*_: object) -> None:
        seen.append(memory._entered)

    model = build_model(Config(dict(model=tiny_model())))
    loop = IterBasedTrainLoop.__new__(IterBasedTrainLoop)
    loop._runner = SimpleNamespace(model=model)
    loop._train_step(look, {'data_samples': []})
    fast = fast_form(model)
    fast.module.backbone.register_forward_hook(look)
    fast.predict(images(1, 64, 64), samples(1, 64, 64))
    look()
    assert seen == [1, 1, 0]


GROWING = """
from pathlib import Path
import torch
from sparse_rcnn_mm.acceleration.memory import keep_memory

model, kept = torch.nn.Linear(1, 1), []

def resident():
    return int(Path('/proc/self/statm').read_text().split()[1]) / 256

before = resident()
for times in (1, 2, 4):
    with keep_memory(model):
        torch.ones(int(times * before) * 2**18)
        kept.append(torch.ones(2**12))  # lies behind the gap that the large tensor leaves
    print(resident() - before < 100, end=' ')
"""


@pytest.mark.skipif(platform.libc_ver()[0] != 'glibc', reason='only glibc gives memory back so early')
def test_gaps_of_a_growing_process_are_given_back() -> None:
    done = subprocess.run([sys.executable, '-c', GROWING], capture_output=True, text=True, check=False)
    assert done.stdout == 'True True True ', done.stderr
