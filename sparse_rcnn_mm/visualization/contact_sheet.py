"""One page of training images as the network sees them."""
from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw

from .draw import Mark, class_colors, draw_boxes, label_font
from .masks import draw_masks

if TYPE_CHECKING:
    from torch.utils.data import Dataset

_GAP = 6
_CAPTION = 16


def contact_sheet(dataset: Dataset, classes: Sequence[str], count: int = 12, columns: int = 4, tile: int = 320,
                  seed: int = 0) -> Image.Image:
    """Draw images of a data set after its pipeline, with boxes, class names and masks, and the image size below each.

    Args:
        dataset: returns what `PackDetInputs` makes: `inputs` (3, H, W) uint8 RGB, and boxes in its pixels.
        classes: name of each label.
        count: maximum number of images, chosen at random without repetition.
        columns: pictures per row.
        tile: longest side of a picture, in pixels of the page.
        seed: determines the choice of images and the augmentations.
    """
    length = len(dataset)  # type: ignore[arg-type]
    random = np.random.RandomState(seed)
    chosen = sorted(random.choice(length, min(count, length), replace=False))
    np.random.seed(seed)  # the augmentations use numpy's global random state
    tiles = [_tile(dataset[index], classes, tile) for index in chosen]
    columns = min(columns, len(tiles))
    rows = [tiles[start:start + columns] for start in range(0, len(tiles), columns)]
    heights = [max(picture.height for picture in row) + _GAP for row in rows]
    page = Image.new('RGB', (columns * (tile + _GAP) + _GAP, sum(heights) + _GAP), 'white')
    top = _GAP
    for row, height in zip(rows, heights, strict=True):
        for column, picture in enumerate(row):
            page.paste(picture, (_GAP + column * (tile + _GAP), top))
        top += height
    return page


def _tile(sample: dict, classes: Sequence[str], tile: int) -> Image.Image:
    picture = Image.fromarray(np.ascontiguousarray(sample['inputs'].permute(1, 2, 0).numpy()))
    truth = sample['data_samples'].gt_instances
    boxes = truth.bboxes.tensor if hasattr(truth.bboxes, 'tensor') else truth.bboxes
    size = f'{picture.width} x {picture.height}'
    scale = tile / max(picture.size)
    picture = picture.resize((max(round(picture.width * scale), 1), max(round(picture.height * scale), 1)))
    colors = class_colors(len(classes))
    if 'masks' in truth:
        draw_masks(picture, truth.masks.masks.astype(bool), [colors[label] for label in truth.labels.tolist()])
    marks = [Mark(box, colors[label], classes[label])
             for box, label in zip(boxes.numpy() * scale, truth.labels.tolist(), strict=True)]
    draw_boxes(picture, marks, font_size=12)
    page = Image.new('RGB', (tile, picture.height + _CAPTION), 'white')
    page.paste(picture, (0, 0))
    number = len(boxes)
    ImageDraw.Draw(page).text((0, picture.height + 1), f'{size}, {number} box{"" if number == 1 else "es"}',
                              fill='black', font=label_font(12))
    return page
