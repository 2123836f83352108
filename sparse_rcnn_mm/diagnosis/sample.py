"""Samples images with the labels in the file."""
from __future__ import annotations

import random
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sparse_rcnn_mm.own_data.preparing import dropped_as
from sparse_rcnn_mm.own_data.raw_data import RawData


@dataclass(frozen=True)
class Labelled:
    """An image with its boxes (n, 4) as x1, y1, x2, y2 in pixels, not clipped, and their labels (n,).

    `masks` has the segmentation of each box as in the file, None for a box without.
    """
    path: Path
    width: int
    height: int
    boxes: np.ndarray
    labels: np.ndarray
    masks: tuple[Any, ...] = ()


def labelled_images(raw: RawData, most_images: int, seed: int = 0) -> tuple[list[Labelled], list[str]]:
    """Choose random images with boxes that training uses, from the first split. Also returns the class names.

    Labels index the class names, which are ordered by category id.
    """
    coco = next(iter(raw.splits.values())).coco
    names = {one['id']: one['name'] for one in sorted(coco['categories'], key=lambda one: one['id'])}
    label_of = {number: label for label, number in enumerate(names)}
    boxes = defaultdict(list)
    for box in coco['annotations']:
        if not dropped_as(box) and min(box['bbox'][2:]) > 0:
            boxes[box['image_id']].append(box)
    images = [image for image in coco['images'] if boxes[image['id']]]
    chosen = random.Random(seed).sample(images, min(most_images, len(images)))
    return [_labelled(raw.root / image['file_name'], image, boxes[image['id']], label_of) for image in chosen], list(
        names.values())


def _labelled(path: Path, image: dict, boxes: list[dict], label_of: dict[int, int]) -> Labelled:
    corners = np.array([box['bbox'] for box in boxes], dtype=float)
    corners[:, 2:] += corners[:, :2]
    return Labelled(path, image['width'], image['height'], corners,
                    np.array([label_of[box['category_id']] for box in boxes]),
                    tuple(box.get('segmentation') for box in boxes))
