"""Summarizes a data set as text tables."""
from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from mmengine.config import Config

from sparse_rcnn_mm.datasets.transforms import resized_shape
from sparse_rcnn_mm.terminal import one_line

from .inspection import class_counts
from .raw_data import RawData

_BAR = 30  # length of the longest bar, in characters
_CLASSES = 40  # how many classes are shown


@dataclass(frozen=True)
class ModelSettings:
    """The settings of a config that matter for the data.

    Attributes:
        train_sides: smallest and largest short side that training resizes to; None if it does not resize.
        test_side: the short side in testing.
        max_long_side: the limit of the long side.
    """
    num_proposals: int
    strides: tuple[int, ...]
    finest_scale: int
    train_sides: tuple[int, int] | None
    test_side: int | None
    max_long_side: int | None

    @classmethod
    def of(cls, cfg: Config) -> ModelSettings:
        """Read the settings from a config."""
        extractor = cfg.model.roi_head.get('roi_extractor', {})
        train, test = (_resize(cfg[f'{part}_dataloader'].dataset) for part in ('train', 'test'))
        sides, test_sides = (_sides(resize) for resize in (train, test))
        return cls(
            num_proposals=cfg.model.rpn_head.num_proposals,
            strides=tuple(extractor.get('strides', (4, 8, 16, 32))),
            finest_scale=extractor.get('finest_scale', 56),
            train_sides=(min(sides), max(sides)) if sides else None,
            test_side=test_sides[0] if test_sides else None,
            max_long_side=train.get('max_long_side'))


def _resize(dataset: Mapping[str, Any]) -> Mapping[str, Any]:
    steps = list(dataset.get('pipeline', []))
    while 'dataset' in dataset:
        dataset = dataset['dataset']
        steps += dataset.get('pipeline', [])
    return next((step for step in steps if step['type'] == 'ResizeShortSide'), {})


def _sides(resize: Mapping[str, Any]) -> Sequence[int]:
    sides = resize.get('short_sides', [])
    return [sides] if isinstance(sides, int) else list(sides)


def overview(raw: RawData, settings: ModelSettings) -> str:
    """Return the tables: counts, classes, and which level of the feature pyramid each box size falls on."""
    return '\n\n'.join([_counts(raw), _classes(raw), _sizes(raw, settings)])


def _counts(raw: RawData) -> str:
    masks = any(box.get('segmentation') for split in raw.splits.values() for box in split.coco['annotations'])
    title = f'{"masks":>8}' if masks else ''
    lines = [f'{"":12}{"images":>8}{"boxes":>8}{title}{"without boxes":>15}{"boxes an image":>16}{"at most":>9}'
             '  image sizes']
    for name, split in raw.splits.items():
        counts = Counter(box['image_id'] for box in split.coco['annotations'])
        images = split.coco['images']
        masked = f'{sum(bool(box.get("segmentation")) for box in split.coco["annotations"]):8}' if masks else ''
        smallest, largest = (choose(images, key=_pixels) for choose in (min, max))
        lines.append(f'{one_line(name) or "all":12}{len(images):8}{sum(counts.values()):8}'
                     f'{masked}{len(images) - len(counts):15}'
                     f'{sum(counts.values()) / len(images):16.1f}{max(counts.values(), default=0):9}  '
                     f'{smallest["width"]}x{smallest["height"]} to {largest["width"]}x{largest["height"]}')
    return '\n'.join(lines)


def _pixels(image: Mapping[str, int]) -> int:
    return image['width'] * image['height']


def _classes(raw: RawData) -> str:
    counts = {one_line(name): by_split for name, by_split in class_counts(raw).items()}
    width = max(map(len, counts), default=0) + 2
    most = max((sum(by_split.values()) for by_split in counts.values()), default=1)
    lines = [f'{"class":{width}}' + ''.join(f'{one_line(split) or "all":>8}' for split in raw.splits)]
    for name, by_split in list(counts.items())[:_CLASSES]:
        bar = '#' * round(_BAR * sum(by_split.values()) / most)
        lines.append(f'{name:{width}}' + ''.join(f'{by_split.get(split, 0):8}' for split in raw.splits) + f'  {bar}')
    if len(counts) > _CLASSES:
        lines.append(f'... and {len(counts) - _CLASSES} more classes')
    return '\n'.join(lines)


def _sizes(raw: RawData, settings: ModelSettings) -> str:
    """For each resizing, the share of the first split's boxes that is pooled from each pyramid level."""
    split = next(iter(raw.splits.values()))
    images = {image['id']: image for image in split.coco['images']}
    boxes = [box for box in split.coco['annotations'] if min(box['bbox'][2:]) > 0]
    sides = np.array([box['bbox'][2:] for box in boxes], dtype=float).reshape(-1, 2)
    owners = [images[box['image_id']] for box in boxes]
    lines = ['size of a box (root of its area) and its level in the feature pyramid, after resizing the short side']
    header = f'{"":24}' + ''.join(f'{f"stride {stride}":>11}' for stride in settings.strides)
    lines.append(f'{header}{"median":>10}{"side < 4 px":>14}')
    for label, side in _resizes(settings).items():
        lines.append(f'{label:24}' + _level_row(sides * _scales(owners, side, settings)[:, None], settings))
    return '\n'.join(lines)


def _resizes(settings: ModelSettings) -> dict[str, int | None]:
    resizes: dict[str, int | None] = {'as they are': None}
    if settings.train_sides:
        smallest, largest = settings.train_sides
        resizes[f'training, smallest: {smallest}'] = smallest
        if largest > smallest:
            resizes[f'training, largest: {largest}'] = largest
    if settings.test_side:
        resizes[f'testing: {settings.test_side}'] = settings.test_side
    return resizes


def _scales(images: Sequence[Mapping[str, int]], side: int | None, settings: ModelSettings) -> np.ndarray:
    if side is None:
        return np.ones(len(images))
    shape: Callable[[int, int], tuple[int, int]] = lambda height, width: resized_shape(  # noqa: E731
        height, width, side, settings.max_long_side)
    return np.array([shape(image['height'], image['width'])[0] / image['height'] for image in images])


def _level_row(sides: np.ndarray, settings: ModelSettings) -> str:
    if not len(sides):
        return ''
    size = np.sqrt(sides.prod(axis=1))
    level = np.clip(np.floor(np.log2(size / settings.finest_scale)), 0, len(settings.strides) - 1)
    shares = [np.mean(level == index) for index in range(len(settings.strides))]
    small = np.mean(sides.min(axis=1) < 4)
    return ''.join(f'{share:11.0%}' for share in shares) + f'{np.median(size):10.0f}{small:14.1%}'
