"""Weights, images and ground truths of the cases of QueryInst, which follow from their names.

The numbers in `tests/data/queryinst` were made by mmdet's own QueryInst with these inputs (`make_dumps.py`). A tensor
depends on the seed of its case, its name in the state dict, which is mmdet's and ours, and its shape only.
"""
from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from tests.successors.rule import Array, generator


@dataclass(frozen=True)
class Case:
    """Image sizes as (height, width), ground truths of each image, classes."""
    images: tuple[tuple[int, int], ...]
    num_gts: tuple[int, ...]
    num_classes: int = 4
    num_proposals: int = 12
    num_stages: int = 3
    channels: int = 32
    dynamic_channels: int = 16
    num_heads: int = 4
    ffn_channels: int = 64


_SIZES = ((96, 136), (120, 88))
CASES = {
    'two': Case(_SIZES, (4, 3)),
    'one': Case(_SIZES[:1], (5,)),
    'empty': Case(_SIZES, (3, 0)),
    'one_class': Case(_SIZES, (2, 3), num_classes=1),
}


def _scale(name: str, fan_in: int) -> tuple[float, float]:
    """What a standard normal is multiplied by, and what is added; `fan_in` is 0 for vectors."""
    leaf = '.'.join(name.split('.')[-2:])
    special = {'fc_cls.bias': (0.3, -2.), 'dynamic_layer.bias': (0.02, 0.), 'conv_logits.bias': (0.3, 0.)}
    if leaf in special:
        return special[leaf]
    if leaf.endswith('running_var'):
        return 0.05, 1.
    if not fan_in:
        return (0.1, 1.) if leaf.endswith('.weight') else (0.05, 0.)
    gains = {'fc_reg.weight': 0.3, 'dynamic_layer.weight': 0.1, 'conv2.weight': 0.5, 'conv_logits.weight': 3.}
    return gains.get(leaf, 1.) * math.sqrt((2 if name.startswith('backbone.') else 1) / fan_in), 0.


def fill(case: str, name: str, shape: Sequence[int]) -> Array:
    """Float32 values of an entry of the state dict."""
    if name.endswith('num_batches_tracked'):
        return np.zeros(shape, np.int64)
    z = generator(f'queryinst-{case}', name).standard_normal(tuple(shape), dtype=np.float32)
    if name == 'rpn_head.init_proposal_features.weight':
        return z
    if name == 'rpn_head.init_proposal_bboxes.weight':
        return np.concatenate([(z[:, :2] * np.float32(0.15) + np.float32(0.5)).clip(0.1, 0.9),
                               (z[:, 2:] * np.float32(0.25) + np.float32(0.55)).clip(0.2, 1)], 1)
    scale, offset = _scale(name, math.prod(shape[1:]) if len(shape) > 1 else 0)
    return z * np.float32(scale) + np.float32(offset)


def image(case: str, index: int) -> Array:
    """(3, H, W) uint8: noise in blocks."""
    height, width = CASES[case].images[index]
    g = generator(f'queryinst-{case}', f'image{index}')
    blocks = g.integers(0, 256, (3, height // 8, width // 8), dtype=np.int64).repeat(8, axis=1).repeat(8, axis=2)
    return (blocks * 3 // 4 + g.integers(0, 64, (3, height, width))).astype(np.uint8)


def ground_truth(case: str, index: int) -> tuple[Array, Array, Array]:
    """Boxes (G, 4), labels (G,) and bitmaps (G, H, W) uint8: ellipses without their upper right quarter."""
    spec = CASES[case]
    (height, width), count = spec.images[index], spec.num_gts[index]
    g = generator(f'queryinst-{case}', f'gt{index}')
    boxes, bitmaps = np.zeros((count, 4), np.float32), np.zeros((count, height, width), np.uint8)
    y, x = np.mgrid[:height, :width] + 0.5
    for box, bitmap in zip(boxes, bitmaps, strict=True):
        w, h = g.integers(width // 4, width * 3 // 4), g.integers(height // 4, height * 3 // 4)
        left, top = g.integers(0, width - w), g.integers(0, height - h)
        dx, dy = (x - left) / w * 2 - 1, (y - top) / h * 2 - 1
        bitmap[:] = (dx**2 + dy**2 <= 1) & ~((dx > 0) & (dy < 0))
        box[:] = left, top, left + w, top + h
    return boxes, g.integers(0, spec.num_classes, count).astype(np.int64), bitmaps


def output_size(case: str, index: int) -> tuple[int, int]:
    """(height, width) in which the detections are wanted."""
    height, width = CASES[case].images[index]
    return height * 3 // 2 + 1, width * 3 // 2


def selected(names: Iterable[str]) -> list[str]:
    """The parameters whose values are stored: one of every kind of the first and the last stage."""
    left_out = 'backbone.', 'roi_head.bbox_head.1', 'roi_head.mask_head.1'
    return [name for name in sorted(names)
            if not name.startswith(left_out) or name == 'backbone.layer1.0.conv1.weight']


def samples(values: Array) -> Array:
    """The 32 numbers that are stored of an array."""
    flat = np.asarray(values).reshape(-1)
    return flat[np.linspace(0, len(flat) - 1, 32).astype(np.int64)]
