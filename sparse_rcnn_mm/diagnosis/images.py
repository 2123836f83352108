"""Chooses the few images to learn, and reads them as in training and in testing."""
from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Any

from mmengine.config import Config
from mmengine.dataset import BaseDataset, pseudo_collate
from mmengine.registry import DefaultScope

from sparse_rcnn_mm.engine.data_stream import drawing_from
from sparse_rcnn_mm.errors import UserError
from sparse_rcnn_mm.registry import DATASETS, SCOPE, innermost_dataset

_LOOKED_AT = 2000  # the images to choose from


class FewImages:
    """Some training images of a config, read with the training pipeline or with the test pipeline.

    Attributes:
        infos: path, size and boxes of each, before any pipeline.
        total: the number of images in the whole training set.
    """

    def __init__(self, cfg: Config, count: int, seed: int = 0, part: str = 'train') -> None:
        settings = innermost_dataset(cfg[f'{part}_dataloader'].dataset).copy()
        with DefaultScope.overwrite_default_scope(SCOPE):
            whole: Any = DATASETS.build(settings)
            testing: Any = DATASETS.build({**settings, 'pipeline': innermost_dataset(
                cfg.test_dataloader.dataset).pipeline})
        self.classes: tuple[str, ...] = tuple(whole.metainfo['classes'])
        self.total = len(whole)
        self.chosen = _choose(whole, count, cfg.model.rpn_head.num_proposals, seed)
        if not self.chosen:
            raise UserError(f'no image of the {part} data has a box after the filters of the data set: there is '
                            'nothing to learn')
        self.infos: list[dict] = [whole.get_data_info(index) for index in self.chosen]
        self.train: BaseDataset = whole.get_subset(self.chosen)
        self.test: BaseDataset = testing.get_subset(self.chosen)
        self.batch_size = min(cfg[f'{part}_dataloader'].batch_size, len(self.chosen))
        self.seed = seed

    def fixed_batches(self) -> list[dict]:
        """Read every image once with the training pipeline, with fixed random numbers."""
        return list(self._batches(range(len(self.chosen)), number=-1))

    def test_batches(self) -> Iterator[dict]:
        """Yield every image by itself, read with the test pipeline."""
        samples = (self.test[index] for index in range(len(self.chosen)))
        return (pseudo_collate([sample]) for sample in samples)

    def endless(self) -> Iterator[dict]:
        """Yield training batches without end, in a new order in every epoch, with new random augmentation."""
        order: list[int] = []
        random_order = random.Random(self.seed)
        number = 0
        while True:
            while len(order) < self.batch_size:
                order += random_order.sample(range(len(self.chosen)), len(self.chosen))
            batch, order = order[:self.batch_size], order[self.batch_size:]
            yield from self._batches(batch, number)
            number += 1

    def _batches(self, indices: Sequence[int], number: int) -> Iterator[dict]:
        for start in range(0, len(indices), self.batch_size):
            samples = []
            for place, index in enumerate(indices[start:start + self.batch_size]):
                with drawing_from((self.seed, number + 1, start + place)):
                    samples.append(self.train[index])
            yield pseudo_collate(samples)


def _choose(dataset: Any, count: int, most_boxes: int, seed: int) -> list[int]:
    """Choose images with boxes, but no more boxes than the model can find, and with many different classes."""
    looked_at = random.Random(seed).sample(range(len(dataset)), min(_LOOKED_AT, len(dataset)))
    labels = {index: {one['bbox_label'] for one in instances} for index in looked_at
              if 0 < len(instances := dataset.get_data_info(index)['instances']) <= most_boxes}
    chosen: list[int] = []
    seen: set[int] = set()
    while labels and len(chosen) < count:
        best = max(labels, key=lambda index: len(labels[index] - seen))
        seen |= labels.pop(best)
        chosen.append(best)
    return chosen
