"""Samplers: batches of equal orientation, and oversampling of rare classes."""
from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

import numpy as np
import torch
from mmdet.datasets.samplers import AspectRatioBatchSampler as MMDetAspectRatioBatchSampler
from mmengine.dataset import InfiniteSampler

from sparse_rcnn_mm.errors import UserError
from sparse_rcnn_mm.registry import DATA_SAMPLERS


@DATA_SAMPLERS.register_module()
class AspectRatioBatchSampler(MMDetAspectRatioBatchSampler):
    """Like mmdet's: each batch has only portrait images, or none. Does not build the dict of every image.

    On resuming, batches that were already trained on are skipped, in about a second for a million images.
    """

    _skipped = 0

    def skip(self, num_batches: int) -> None:
        """Start the next iteration over this sampler after `num_batches` batches of this process."""
        if num_batches < 0:
            raise ValueError(f'{num_batches} batches cannot be skipped')
        self._skipped = num_batches

    def __iter__(self) -> Iterator[list[int]]:
        skipped, self._skipped = self._skipped, 0
        return islice(self._batches(), skipped, None)

    def _batches(self) -> Iterator[list[int]]:
        sizes = _image_sizes(self.sampler.dataset)
        landscape = (sizes[:, 0] >= sizes[:, 1]).tobytes()
        buckets: tuple[list[int], list[int]] = ([], [])
        for index in self.sampler:
            bucket = buckets[landscape[index]]
            bucket.append(index)
            if len(bucket) == self.batch_size:
                yield bucket[:]
                bucket.clear()
        rest = buckets[0] + buckets[1]
        while len(rest) > self.batch_size:
            yield rest[:self.batch_size]
            rest = rest[self.batch_size:]
        if rest and not self.drop_last:
            yield rest


@DATA_SAMPLERS.register_module()
class InfiniteRepeatFactorSampler(InfiniteSampler):
    """Repeat factor sampling: repeats images of rare classes (Gupta et al. 2019, section 4.2; arXiv 1908.03195).

    A class in a fraction f of the images has the repeat factor max(1, sqrt(threshold / f)). The factor of an image is
    the largest of its classes', or 1 if it has no boxes. In an epoch, an image of factor 2.3 comes twice, and with
    probability 0.3 a third time.
    """

    def __init__(self, dataset: Any, threshold: float = 0.001, seed: int | None = None) -> None:
        super().__init__(dataset, shuffle=True, seed=seed)
        self.factors = torch.from_numpy(repeat_factors(labels_in_images(dataset), len(dataset), threshold))

    def _infinite_indices(self) -> Iterator[int]:
        generator = torch.Generator()
        generator.manual_seed(self.seed)
        whole, part = self.factors.floor(), self.factors.frac()
        while True:
            more = torch.rand(len(part), generator=generator, dtype=part.dtype) < part
            indices = torch.repeat_interleave((whole + more).long())
            yield from indices[torch.randperm(len(indices), generator=generator)].tolist()


@DATA_SAMPLERS.register_module()
class InfiniteClassAwareSampler(InfiniteSampler):
    """Class-aware sampling: draws a class, then an image of it (Shen et al. 2016, section 3.3; arXiv 1512.05830).

    Classes, and the images of a class, come in random order; none repeats before all have come. Images without boxes
    are never drawn.
    """

    def __init__(self, dataset: Any, seed: int | None = None) -> None:
        super().__init__(dataset, shuffle=True, seed=seed)
        images, labels = labels_in_images(dataset).T
        if not len(labels):
            raise UserError('InfiniteClassAwareSampler needs images with boxes, and the data set has none')
        order = np.argsort(labels, kind='stable')
        starts = np.flatnonzero(np.diff(labels[order], prepend=-1))[1:]
        self.images_of_classes = np.split(images[order], starts)  # of the classes that have images

    def _infinite_indices(self) -> Iterator[int]:
        generator = torch.Generator()
        generator.manual_seed(self.seed)
        images = [_shuffled(images, generator) for images in self.images_of_classes]
        for label in _shuffled(np.arange(len(images)), generator):
            yield next(images[label])


def _shuffled(values: np.ndarray, generator: torch.Generator) -> Iterator[int]:
    while True:
        yield from values[torch.randperm(len(values), generator=generator).numpy()].tolist()


def repeat_factors(pairs: np.ndarray, images: int, threshold: float) -> np.ndarray:
    """How often each image comes per epoch on average, (I,). `pairs` comes from `labels_in_images`."""
    frequency = np.bincount(pairs[:, 1]) / images
    of_classes = np.sqrt(threshold / np.maximum(frequency, 1 / images))
    factors = np.ones(images)
    np.maximum.at(factors, pairs[:, 0], of_classes[pairs[:, 1]])
    return factors


def labels_in_images(dataset: Any) -> np.ndarray:
    """All pairs of an image index and a label in it, (P, 2).

    Raises:
        UserError: the data set does not provide them.
    """
    if hasattr(dataset, 'labels_in_images'):
        return dataset.labels_in_images()
    if not hasattr(dataset, 'get_cat_ids'):
        raise UserError(f'{type(dataset).__name__} does not provide the classes in each image, which the sampler of '
                        'train_dataloader needs: use a CocoDataset, or InfiniteSampler')
    pairs = [(index, label) for index in range(len(dataset)) for label in sorted(set(dataset.get_cat_ids(index)))]
    return np.array(pairs, dtype=np.int64).reshape(-1, 2)


def _image_sizes(dataset: Any) -> np.ndarray:
    if hasattr(dataset, 'image_sizes'):
        return dataset.image_sizes()
    infos = map(dataset.get_data_info, range(len(dataset)))  # a wrapper such as RepeatDataset
    return np.array([(info['width'], info['height']) for info in infos]).reshape(-1, 2)
