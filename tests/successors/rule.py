"""Weights, features and ground truths of the successors' dumps, which follow from their names.

The numbers in `tests/data/successors` were made by the methods' own code with these inputs (`tests/data/README.md`).
A tensor depends on the seed of its case, its name in the method's own state dict and its shape only: PCG64 seeded
with sha256 of `seed:name`, float32 throughout.
"""
from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

import numpy as np

Array = np.ndarray
Scale = tuple[float | Array, float | Array]  # the standard normal is multiplied by the first; the second is added


def generator(seed: str, name: str) -> np.random.Generator:
    digest = hashlib.sha256(f'{seed}:{name}'.encode()).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest[:8], 'little')))


def normal(seed: str, name: str, shape: Sequence[int]) -> Array:
    return generator(seed, name).standard_normal(tuple(shape), dtype=np.float32)


def _vector(name: str) -> Scale:
    return (0.1, 1.) if name.endswith('.weight') else (0.05, 0.)


def _dense_scale(name: str, shape: Sequence[int], inverse: float) -> Scale:
    """Of an entry `rpn_head.*`; `inverse` is 1 / fan-in, 0 for vectors."""
    leaf = name.removeprefix('rpn_head.').removeprefix('aux_')
    special: dict[str, Scale] = {
        'init_content_features.weight': (1., 0.), 'compress.weight': (math.sqrt(inverse), 0.),
        'conv_cls.weight': (1.5 * math.sqrt(inverse), 0.), 'conv_cls.bias': (0.3, -2.),
        'conv_reg.weight': (0.4 * math.sqrt(inverse), 0.), 'conv_reg.bias': (0.05, 0.7)}
    if leaf.startswith('scales.'):
        return 0.1, 1.
    if leaf in special:
        return special[leaf]
    return (math.sqrt(2 * inverse), 0.) if inverse else _vector(name)


def _stage_scale(name: str, shape: Sequence[int], inverse: float) -> Scale:
    """Of an entry `roi_head.bbox_head.T.*`."""
    stage, leaf = int(name.split('.')[2]), name.split('.', 3)[3]
    first = 0.4 if stage == 0 else 0.15
    special: dict[str, Scale] = {
        'iof_tau': (0.3, 2.), 'fc_cls.bias': (0.3, -2.), 'fc_reg.weight': (first * math.sqrt(inverse), 0.),
        'dynamic_layer.weight': (0.1 * math.sqrt(inverse), 0.), 'dynamic_layer.bias': (0.02, 0.),
        'sampling_offset_generator.0.weight': (0.3 * math.sqrt(inverse), 0.),
        'sampling_offset_generator.0.bias': (np.tile(np.float32([.25, .25, .5]), shape[0] // 3),
                                             np.tile(np.float32([0, 0, -1]), shape[0] // 3)),
        'parameter_generator.0.weight': (0.5 * math.sqrt(inverse), 0.), 'parameter_generator.0.bias': (0.5, 0.)}
    for ending, scale in special.items():
        if leaf.endswith(ending):
            return scale
    return (math.sqrt(inverse), 0.) if inverse else _vector(name)


def fill(seed: str, name: str, shape: Sequence[int], smaller: bool) -> Array:
    """Float32 values of a parameter.

    Args:
        smaller: the first stage makes the whole image smaller, as in the cases of AdaMixer and SQR.
    """
    if name == 'rpn_head.init_proposal_bboxes.weight':
        return np.tile(np.float32([.5, .5, 1, 1]), (shape[0], 1))
    inverse = 1 / math.prod(shape[1:]) if len(shape) > 1 else 0.
    scale, offset = (_dense_scale if name.startswith('rpn_head.') else _stage_scale)(name, shape, inverse)
    value = normal(seed, name, shape) * np.asarray(scale, np.float32) + np.asarray(offset, np.float32)
    if smaller and name == 'roi_head.bbox_head.0.fc_reg.bias':
        value = value + np.float32([0, 0, -1.2, 0])
    return np.asarray(value, np.float32)


def features(seed: str, batch: int, channels: int, pad: Sequence[int], strides: Sequence[int]) -> list[Array]:
    """One map (B, C, H, W) for every stride, of a padded batch of `pad` (height, width) pixels."""
    return [normal(seed, f'feat{level}', (batch, channels, *(-(-side // stride) for side in pad)))
            for level, stride in enumerate(strides)]


def nms_set(seed: str, count: int) -> tuple[Array, Array]:
    """Boxes (n, 4) that overlap much and their scores (n,); one without area, and two that are the same."""
    g = generator(seed, 'nms')
    centre = g.random((count, 2), dtype=np.float32) * np.float32(160)
    size = np.float32(20) + np.float32(50) * g.random((count, 2), dtype=np.float32)
    boxes = np.concatenate([centre - size / np.float32(2), centre + size / np.float32(2)], -1)
    scores = (g.permutation(count).astype(np.float32) + np.float32(1)) / np.float32(count + 1)
    boxes[7, 2:] = boxes[7, :2]
    boxes[11] = boxes[3]
    return boxes, scores
