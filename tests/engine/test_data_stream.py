"""The stream of training data: entered anywhere, it goes on as if it had been read from the start."""
from __future__ import annotations

import random
import time
from itertools import chain, islice
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.dataset import DefaultSampler, InfiniteSampler
from torch.utils.data import BatchSampler, DataLoader, Dataset

from sparse_rcnn_mm.engine.data_stream import SeededBatches, SeededDataset, drawing_from, seeded_loader
from sparse_rcnn_mm.errors import UserError


class Draws(Dataset):
    """Samples that are an index and a number from each source of randomness."""

    pipeline = 'first'

    def __init__(self, size: int = 7) -> None:
        self.size = size

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> tuple[int, float, float, float]:
        return index, random.random(), np.random.rand(), torch.rand(()).item()


def loader(workers: int, endless: bool = True) -> DataLoader:
    dataset = Draws()
    sampler = (InfiniteSampler if endless else DefaultSampler)(dataset, shuffle=True, seed=5)
    plain = DataLoader(dataset, batch_sampler=BatchSampler(sampler, 2, False), num_workers=workers, collate_fn=list)
    return seeded_loader(plain, seed=11, endless=endless)


def read(workers: int, start: int, count: int) -> list[Any]:
    data = loader(workers)
    data.batch_sampler.enter(start, start)
    return list(islice(iter(data), count))


@pytest.mark.parametrize('workers', [0, 2])
@pytest.mark.parametrize('start', [0, 1, 5, 9])
def test_it_does_not_matter_where_it_was_entered_or_by_how_many_workers(workers: int, start: int) -> None:
    whole = read(0, 0, 12)
    assert read(workers, start, 12 - start) == whole[start:]
    draws = [number for batch in whole for sample in batch for number in sample[1:]]
    assert len(set(draws)) == len(draws) == 12 * 2 * 3  # no two samples, nor two sources, draw the same


def test_epochs_differ_and_are_entered_in_the_middle() -> None:
    def epoch(number: int, skipped: int) -> list[Any]:
        data = loader(0, endless=False)
        data.batch_sampler.sampler.set_epoch(number)
        data.batch_sampler.enter(4 * number + skipped, skipped)
        return list(data)

    assert epoch(2, 3) == epoch(2, 0)[3:]
    assert [len(epoch(1, skipped)) for skipped in range(5)] == [4, 3, 2, 1, 0]
    assert epoch(1, 0) != epoch(2, 0)


def test_a_finite_sampler_starts_again_with_another_order() -> None:
    batches = SeededBatches(BatchSampler(DefaultSampler(Draws(), seed=5), 2, False), seed=0, endless=True)
    indices = [[index for index, _ in batch] for batch in islice(iter(batches), 12)]
    epochs = [[*chain.from_iterable(indices[start:start + 4])] for start in (0, 4, 8)]
    assert [sorted(epoch) for epoch in epochs] == [list(range(7))] * 3
    assert epochs[0] != epochs[1] != epochs[2]


def test_no_batch_at_all_is_an_error() -> None:
    batches = SeededBatches(BatchSampler(DefaultSampler(Draws(1), seed=5), 2, True), seed=0, endless=True)
    with pytest.raises(UserError, match='gives no batch'):
        next(iter(batches))


def test_the_random_states_around_it_stay() -> None:
    for source in (random.random, np.random.rand, lambda: torch.rand(()).item()):
        before = random.getstate(), np.random.get_state(), torch.get_rng_state()
        wanted = source()
        random.setstate(before[0])
        np.random.set_state(before[1])
        torch.set_rng_state(before[2])
        with pytest.raises(ZeroDivisionError), drawing_from((1, 2, 3)):  # noqa: PT012
            source()
            raise ZeroDivisionError
        assert source() == wanted


def test_the_wrapper_shows_what_is_in_it() -> None:
    """mmdet's PipelineSwitchHook sets a new pipeline in the middle of a training."""
    inner = Draws()
    outer = SeededDataset(inner)
    outer.pipeline = 'second'
    assert inner.pipeline == outer.pipeline == 'second'
    assert len(outer) == outer.size == 7


class Skips(BatchSampler):

    def skip(self, count: int) -> None:
        self.sampler.skip(count * self.batch_size)


def test_far_into_a_large_data_set_in_seconds() -> None:
    """Iteration 200,000 of a set of COCO's size, by drawing indices and by a sampler's own `skip`."""
    first = []
    for kind in (BatchSampler, Skips):
        began = time.process_time()
        batches = SeededBatches(kind(InfiniteSampler(Draws(118_287), seed=1), 16, False), seed=1, endless=True)
        batches.enter(200_000, 200_000)
        first.append(next(iter(batches)))
        seconds = time.process_time() - began
        print(f'reliability: iteration 200,000 of 118,287 images in batches of 16 ({kind.__name__}): {seconds:.1f} s')
        assert seconds < 10
    assert first[0] == first[1]
    assert first[0][3][1] == (1, 0, 200_000, 3)  # seed, process, batch, place
