"""The training data as a reproducible stream that can start at any batch.

The sampler's seed determines the images of a batch. Their augmentation is seeded by (seed, rank, batch number, position
in the batch). So a resumed training sees exactly the same data as an uninterrupted one, with any number of workers, and
no worker state has to be saved.
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

Key = tuple[int, tuple[int, ...]]  # index into the data set, seed of the augmentation


class SeededDataset(Dataset):
    """Wraps a data set so that its random transforms depend only on the seed in the `Key`.

    It is indexed by `Key`. All other attributes are read from and written to the wrapped data set.
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
        if name == 'dataset' or name.startswith('__'):  # does not exist yet during unpickling
            raise AttributeError(name)
        return getattr(self.dataset, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self.dataset, name, value)


class SeededBatches(Sampler):
    """The batches of a batch sampler as lists of `Key`.

    Args:
        batches: yields lists of indices. If it has `skip(count)`, that is used to start at batch `count`, which is
            faster than drawing and dropping the batches before it.
        seed: the seed of the training.
        endless: continue with the next epoch at the end. If False, one pass over this sampler is one epoch.
    """

    def __init__(self, batches: Any, seed: int, endless: bool) -> None:
        self.batches = batches
        self.seed = seed
        self.endless = endless
        self._number = self._skipped = 0

    def enter(self, number: int, skipped: int) -> None:
        """Start the next pass at batch `number` of the training, after skipping `skipped` batches of `batches`."""
        self._number, self._skipped = number, skipped

    @property
    def sampler(self) -> Any:
        """The sampler on which mmengine's hooks set the epoch."""
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
                raise UserError('the training data gives no batch: there are fewer images than '
                                'train_dataloader.batch_size, and drop_last drops them')


def seeded_loader(loader: DataLoader, seed: int, endless: bool) -> DataLoader:
    """Return a copy of `loader` that uses `SeededDataset` and `SeededBatches`."""
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
    """Seed the random numbers of Python, NumPy and torch (CPU) inside a block, and restore their states after it."""
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
