"""The training data as a stream that can be entered at any place.

Which images a batch holds follows from the sampler's seed, and how they are augmented from the seed of their place:
(seed, rank, number of the batch, place in the batch). So a training that goes on from a checkpoint sees the same
pictures as one that was never interrupted, with any number of workers; no state of a worker has to be kept.
"""
from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count, islice
from typing import Any

import numpy as np
import torch
from mmengine.dist import get_rank
from torch.utils.data import DataLoader, Dataset, Sampler

from sparse_rcnn_mm.errors import UserError

Key = tuple[int, tuple[int, ...]]  # index into the data set, seed of the place


class SeededDataset(Dataset):
    """A data set whose random transforms draw from the seed of a sample's place, and from nothing else.

    It is indexed by `Key`. Other attributes are those of the data set in it, to read and to set.
    """

    dataset: Any

    def __init__(self, dataset: Any) -> None:
        self.__dict__['dataset'] = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, key: Key) -> Any:
        index, seed = key
        with drawing_from(seed):
            return self.dataset[index]

    def __getattr__(self, name: str) -> Any:
        if name == 'dataset' or name.startswith('__'):  # not there yet while it is unpickled
            raise AttributeError(name)
        return getattr(self.dataset, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self.dataset, name, value)


class SeededBatches(Sampler):
    """The batches of a batch sampler as lists of `Key`.

    Args:
        batches: yields lists of indices. Where it has `skip(count)`, that moves it from its start to batch `count`
            faster than drawing and dropping `count` batches does.
        seed: of the training.
        endless: start again where it ends, with the next epoch's order; else an iteration is one epoch.
    """

    def __init__(self, batches: Any, seed: int, endless: bool) -> None:
        self.batches = batches
        self.seed = seed
        self.endless = endless
        self._number = self._skipped = 0

    def enter(self, number: int, skipped: int) -> None:
        """Let the next iteration start with batch `number` of the training, after `skipped` batches of its own."""
        self._number, self._skipped = number, skipped

    @property
    def sampler(self) -> Any:
        """Where mmengine's hooks set the epoch."""
        return self.batches.sampler

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[list[Key]]:
        rank = get_rank()
        for number, indices in zip(count(self._number), self._rest(), strict=False):
            yield [(index, (self.seed, rank, number, place)) for place, index in enumerate(indices)]

    def _rest(self) -> Iterator[list[int]]:
        passes = self._passes() if self.endless else iter(self.batches)
        if hasattr(self.batches, 'skip'):
            self.batches.skip(self._skipped)
            return passes
        return islice(passes, self._skipped, None)

    def _passes(self) -> Iterator[list[int]]:
        for epoch in count():
            if epoch and hasattr(self.sampler, 'set_epoch'):
                self.sampler.set_epoch(epoch)
            empty = True
            for batch in self.batches:
                empty = False
                yield batch
            if empty:
                raise UserError('the training data make no batch: there are fewer images than train_dataloader.'
                                'batch_size, and drop_last leaves the rest out')


def seeded_loader(loader: DataLoader, seed: int, endless: bool) -> DataLoader:
    """`loader` with a `SeededDataset` and `SeededBatches`."""
    if loader.batch_sampler is None:
        raise UserError('train_dataloader needs a batch_size')
    return DataLoader(
        SeededDataset(loader.dataset), batch_sampler=SeededBatches(loader.batch_sampler, seed, endless),
        num_workers=loader.num_workers, collate_fn=loader.collate_fn, pin_memory=loader.pin_memory,
        timeout=loader.timeout, worker_init_fn=loader.worker_init_fn, prefetch_factor=loader.prefetch_factor,
        persistent_workers=loader.persistent_workers, multiprocessing_context=loader.multiprocessing_context,
        generator=loader.generator)


@contextmanager
def drawing_from(seed: tuple[int, ...]) -> Iterator[None]:
    """Let python, numpy and torch (CPU) draw random numbers from `seed`, and go on where they were afterwards."""
    before = random.getstate(), np.random.get_state(), torch.get_rng_state()
    words = np.random.SeedSequence(seed).generate_state(3)
    random.seed(int(words[0]))
    np.random.seed(words[1])
    torch.default_generator.manual_seed(int(words[2]))  # torch.manual_seed would seed the GPUs too
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])
        torch.set_rng_state(before[2])
