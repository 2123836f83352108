"""Samplers against mmdet's batches, numbers worked out by hand, and streams that were not cut."""
from __future__ import annotations

import time
from collections import Counter
from itertools import islice
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from mmdet.datasets.samplers import AspectRatioBatchSampler as MMDetAspectRatioBatchSampler
from mmengine.dataset import DefaultSampler, InfiniteSampler

import sparse_rcnn_mm.registry as registry
from sparse_rcnn_mm.datasets import AspectRatioBatchSampler, InfiniteClassAwareSampler, InfiniteRepeatFactorSampler
from sparse_rcnn_mm.datasets.samplers import repeat_factors
from sparse_rcnn_mm.errors import UserError


class Images:
    """The labels in each image, and sizes: every third is a portrait, every seventh a square."""

    metainfo: ClassVar[dict] = {}

    def __init__(self, labels: list[list[int]]) -> None:
        self.labels = labels

    def __len__(self) -> int:
        return len(self.labels)

    def full_init(self) -> None:
        pass

    def get_cat_ids(self, index: int) -> list[int]:
        return self.labels[index]

    def get_data_info(self, index: int) -> dict[str, int]:
        return {'width': 4, 'height': 4 if index % 7 == 0 else 5 if index % 3 == 0 else 3}


class Columns(Images):
    """Tells the sizes of all at once, and makes no dict."""

    def get_data_info(self, index: int) -> dict[str, int]:
        raise AssertionError('a dict was made')

    def image_sizes(self) -> np.ndarray:
        return np.array([list(Images.get_data_info(self, index).values()) for index in range(len(self))])


def _sampler(kind: Any, dataset: Any, rank: int = 0, processes: int = 1, **options: Any) -> Any:
    sampler = kind(dataset, **options)
    sampler.rank, sampler.world_size = rank, processes
    return sampler


@pytest.mark.parametrize('dataset', [Columns([[]] * 103), Images([[]] * 103)])
@pytest.mark.parametrize(('rank', 'processes'), [(0, 1), (0, 3), (2, 3)])
@pytest.mark.parametrize('batch_size', [1, 4])
def test_batches_are_those_of_mmdet_and_can_be_skipped(dataset: Any, rank: int, processes: int,
                                                       batch_size: int) -> None:
    def batches(kind: Any, skipped: int = 0) -> list[list[int]]:
        sampler = kind(_sampler(InfiniteSampler, dataset if kind is AspectRatioBatchSampler else Images([[]] * 103),
                                rank, processes, seed=5), batch_size)
        if skipped:
            sampler.skip(skipped)
        return list(islice(iter(sampler), 200 - skipped))

    expected = batches(MMDetAspectRatioBatchSampler)
    assert batches(AspectRatioBatchSampler) == expected
    for skipped in (1, 2, 7, 150, 200):
        assert batches(AspectRatioBatchSampler, skipped) == expected[skipped:]


@pytest.mark.parametrize('drop_last', [False, True])
@pytest.mark.parametrize('size', [1, 8, 9, 10, 11, 12])
def test_the_rest_of_an_epoch_is_that_of_mmdet(drop_last: bool, size: int) -> None:
    dataset = Images([[]] * size)
    for seed in range(5):
        ours, theirs = (kind(_sampler(DefaultSampler, dataset, seed=seed), 4, drop_last)
                        for kind in (AspectRatioBatchSampler, MMDetAspectRatioBatchSampler))
        assert list(ours) == list(theirs)
        ours.skip(1)
        assert list(ours) == list(theirs)[1:]
        assert list(ours) == list(theirs)  # the next epoch is whole


def test_skipping_far_is_fast() -> None:
    """200,000 iterations of 2 images: it would take hours to decode them. In CPU time, whatever else runs."""
    sampler = AspectRatioBatchSampler(InfiniteSampler(Columns([[]] * 10_000), seed=0), 2)
    sampler.skip(200_000)
    start = time.process_time()
    next(iter(sampler))
    assert time.process_time() - start < 5


def test_it_cannot_skip_backwards() -> None:
    with pytest.raises(ValueError, match='-1 batches'):
        AspectRatioBatchSampler(InfiniteSampler(Images([[]] * 9), seed=0), 2).skip(-1)


def test_configs_get_ours() -> None:
    assert registry.DATA_SAMPLERS.get('AspectRatioBatchSampler') is AspectRatioBatchSampler
    assert registry.DATA_SAMPLERS.get('InfiniteRepeatFactorSampler') is InfiniteRepeatFactorSampler


# 16 images: class 0 in all but the last two, class 1 in 4 of 16, class 2 in one.
LABELS = [[0], [0, 0], [0, 1], [0, 1], [0, 1], [0, 1, 1], [0, 2], *[[0]] * 7, [], []]


def test_repeat_factors_by_hand() -> None:
    """With a threshold of 1/2: f = 14/16, 1/4, 1/16; sqrt(t / f) = 0.76 -> 1, sqrt(2), sqrt(8)."""
    pairs = np.array([(index, label) for index, labels in enumerate(LABELS) for label in set(labels)])
    factors = repeat_factors(pairs, 16, 0.5)
    np.testing.assert_allclose(factors, [1, 1, *[2 ** 0.5] * 4, 8 ** 0.5, *[1] * 9], rtol=1e-15)
    assert (repeat_factors(pairs, 16, 0.001) == 1).all()
    # a label that no image has between two that some have
    np.testing.assert_allclose(repeat_factors(np.array([[0, 0], [1, 2]]), 4, 1), [2, 2, 1, 1])


def test_images_come_as_often_as_their_factor_says() -> None:
    sampler = InfiniteRepeatFactorSampler(Images(LABELS), threshold=0.5, seed=0)
    draws = 20_000
    counts = Counter(islice(iter(sampler), draws))
    epochs = draws / (11 + 4 * 2 ** 0.5 + 8 ** 0.5)
    # the whole part is certain, so that the spread is that of the part behind the point: below 0.5 an epoch
    for index, factor in enumerate([1, 1, *[2 ** 0.5] * 4, 8 ** 0.5, *[1] * 9]):
        assert counts[index] / epochs == pytest.approx(factor, abs=5 * 0.5 / epochs ** 0.5)
    first = list(islice(iter(InfiniteRepeatFactorSampler(Images(LABELS), threshold=0.5, seed=0)), 18))
    assert first != sorted(first)


@pytest.mark.parametrize('kind', [InfiniteRepeatFactorSampler, InfiniteClassAwareSampler])
def test_processes_share_one_stream(kind: Any) -> None:
    whole = list(islice(iter(_sampler(kind, Images(LABELS), seed=3)), 90))
    for rank in range(3):
        assert list(islice(iter(_sampler(kind, Images(LABELS), rank, 3, seed=3)), 30)) == whole[rank::3]
    assert whole != list(islice(iter(_sampler(kind, Images(LABELS), seed=4)), 90))


def test_every_class_comes_equally_often() -> None:
    """In 3 x 28 draws each class is drawn 28 times, and so each of its images 28 / (images of the class) times."""
    counts = Counter(islice(iter(InfiniteClassAwareSampler(Images(LABELS), seed=0)), 3 * 28))
    assert counts[6] == 28 + 2  # the only image of class 2, and one of the 14 of class 0
    assert [counts[index] for index in (2, 3, 4, 5)] == [28 / 4 + 28 / 14] * 4
    assert [counts[index] for index in (0, 1, *range(7, 14))] == [2] * 9
    assert counts[14] == counts[15] == 0


def test_what_samplers_cannot_use_is_said() -> None:
    with pytest.raises(UserError, match='needs images with boxes, and the data set has none'):
        InfiniteClassAwareSampler(Images([[], []]), seed=0)
    with pytest.raises(UserError, match='list does not provide the classes in each image'):
        InfiniteRepeatFactorSampler([1, 2], seed=0)


def test_samplers_do_not_touch_the_global_generator() -> None:
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    for kind in (InfiniteRepeatFactorSampler, InfiniteClassAwareSampler):
        list(islice(iter(kind(Images(LABELS), seed=0)), 50))
    assert torch.equal(torch.rand(3), expected)
