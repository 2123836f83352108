"""Speed of the training pipeline alone, without a model."""
from __future__ import annotations

import time

import numpy as np
from mmengine.config import Config
from mmengine.registry import DefaultScope

from sparse_rcnn_mm.registry import DATASETS, innermost_dataset


def seconds_by_transform(cfg: Config, images: int) -> dict[str, float]:
    """Seconds per image of each step of `cfg`'s training pipeline in one process, over `images` random images.

    Raises:
        UserError: the data set cannot be read.
    """
    with DefaultScope.overwrite_default_scope('sparse_rcnn_mm'):
        dataset = DATASETS.build(innermost_dataset(cfg.train_dataloader.dataset))
    seconds = dict.fromkeys((type(transform).__name__ for transform in dataset.pipeline.transforms), 0.)
    np.random.seed(0)
    for index in np.random.randint(len(dataset), size=images):
        results = dataset.get_data_info(int(index))
        for transform in dataset.pipeline.transforms:
            start = time.perf_counter()
            results = transform(results)
            seconds[type(transform).__name__] += (time.perf_counter() - start) / images
    return seconds


def loader_table(seconds: dict[str, float]) -> str:
    """The result of `seconds_by_transform` as a Markdown table."""
    total = sum(seconds.values())
    lines = [f'training pipeline: {1 / total:.1f} images / s in one process', '',
             '| step | ms | share |', '|---|---|---|',
             *(f'| {name} | {1000 * value:.1f} | {100 * value / total:.0f}% |' for name, value in seconds.items())]
    return '\n'.join(lines)
