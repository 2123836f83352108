"""Weights, images and ground truths that follow from their names.

The numbers in `tests/data/parity_*.npz` were dumped from the official Sparse R-CNN, filled by this rule, so both
sides can be compared without storing a checkpoint. A tensor depends on the seed of the case, its name in the
official state dict and its shape only: PCG64 seeded with sha256 of `seed:name`, float32 throughout.
"""
import hashlib
import math
from dataclasses import dataclass, field

import numpy as np

Array = np.ndarray


@dataclass(frozen=True)
class Case:
    """One dumped run: image sizes as (height, width), ground truths per image, sizes of the model."""

    version: int
    images: tuple[tuple[int, int], ...]
    num_gts: tuple[int, ...]
    num_classes: int = 5
    num_proposals: int = 20
    num_stages: int = 3
    channels: int = 64
    dynamic_channels: int = 16
    num_heads: int = 4
    ffn_channels: int = 128
    depth: int = 50
    scale: dict[str, tuple[float, ...]] = field(default_factory=dict)
    shift: dict[str, tuple[float, ...]] = field(default_factory=dict)


_SMALL = ((160, 224), (192, 136))
_LAST_DELTA = 'head.head_series.2.bboxes_delta'
CASES = {
    'tiny': Case(3, _SMALL, (5, 3)),
    'clamp': Case(13, _SMALL, (5, 5), scale={f'{_LAST_DELTA}.weight': (6, 6, 45, 45)},
                  shift={f'{_LAST_DELTA}.bias': (0, 0, 1.5, 1.5)}),
    'outside': Case(1, _SMALL, (4, 4), scale={f'{_LAST_DELTA}.weight': (20, 20, 1, 1)}),
    'empty': Case(4, _SMALL, (6, 0)),
    'empty_all': Case(2, _SMALL, (0, 0)),
    'r50_100': Case(4, ((320, 448), (384, 272)), (7, 4), num_classes=80, num_proposals=100, num_stages=6, channels=256,
                    dynamic_channels=64, num_heads=8, ffn_channels=2048),
}


def _generator(case: str, name: str) -> np.random.Generator:
    digest = hashlib.sha256(f'sparsercnn-parity-{case}-v{CASES[case].version}:{name}'.encode()).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest[:8], 'little')))


def _backbone_scale(name: str, fan_in: int) -> tuple[float, float]:
    """(scale, offset) of a `backbone.*` tensor; `fan_in` is 0 for vectors."""
    if '.norm.' in name:
        return 0.05, float(name.endswith('.weight'))
    if not fan_in:
        return 0.02, 0.0
    if name.endswith('.conv3.weight'):
        return 0.3 * math.sqrt(2 / fan_in), 0.0
    gain = 1.0 if '.shortcut.' in name or '.fpn_' in name else 2.0
    return math.sqrt(gain / fan_in), 0.0


def _head_scale(name: str, fan_in: int) -> tuple[float, float | tuple[float, ...]]:
    """(scale, offset) of a `head.*` tensor; `fan_in` is 0 for vectors."""
    special: dict[str, tuple[float, float | tuple[float, ...]]] = {
        'class_logits.bias': (0.3, -2.0),
        'bboxes_delta.bias': (0.05, (0.0, 0.0, 0.12, 0.12)),
        'dynamic_layer.bias': (0.02, 0.0),
    }
    leaf = '.'.join(name.split('.')[-2:])
    if leaf in special:
        return special[leaf]
    if fan_in:
        gain = {'bboxes_delta.weight': 0.2, 'dynamic_layer.weight': 0.1}.get(leaf, 1.0)
        return gain * math.sqrt(1 / fan_in), 0.0
    return (0.1, 1.0) if name.endswith('.weight') else (0.05, 0.0)


def _proposal_boxes(z: Array) -> Array:
    f = np.float32
    centres = np.clip(z[:, :2] * f(0.15) + f(0.5), f(0.1), f(0.9))
    sizes = np.clip(z[:, 2:] * f(0.25) + f(0.55), f(0.2), f(1.0))
    return np.concatenate([centres, sizes], 1)


def fill(case: str, name: str, shape: tuple[int, ...]) -> Array:
    """Float32 values of the entry `name` (official name) of a case's state dict."""
    z = _generator(case, name).standard_normal(shape, dtype=np.float32)
    fan_in = math.prod(shape[1:]) if len(shape) > 1 else 0
    if name == 'init_proposal_boxes.weight':
        return _proposal_boxes(z)
    scale: float
    offset: float | tuple[float, ...]
    if name == 'init_proposal_features.weight':
        return z
    if name.endswith('.running_var'):
        z, scale, offset = np.abs(z), 0.1, 1.0
    elif name.endswith('.running_mean'):
        scale, offset = 0.05, 0.0
    else:
        scale, offset = (_backbone_scale if name.startswith('backbone.') else _head_scale)(name, fan_in)
    value = z * np.float32(scale) + np.asarray(offset, np.float32)
    spec = CASES[case]
    if name in spec.scale:
        value = value * np.asarray(spec.scale[name], np.float32).reshape(-1, *[1] * (len(shape) - 1))
    if name in spec.shift:
        value = value + np.asarray(spec.shift[name], np.float32)
    return value


def image(case: str, index: int) -> Array:
    """(3, H, W) uint8 RGB: blurred blocks plus noise, in integer arithmetic, so the same on every machine."""
    height, width = CASES[case].images[index]
    g = _generator(case, f'image{index}')
    blocks = g.integers(0, 256, (3, height // 8 + 5, width // 8 + 5), dtype=np.int64)
    pixels = blocks.repeat(8, axis=1).repeat(8, axis=2)
    for axis in (1, 2):
        windows = np.lib.stride_tricks.sliding_window_view(pixels, 17, axis=axis)
        pixels = windows.sum(-1) // 17
    pixels = (pixels[:, :height, :width] - 128) * 2 + 128
    pixels = pixels + g.integers(-12, 13, (3, height, width), dtype=np.int64)
    return np.clip(pixels, 0, 255).astype(np.uint8)


def ground_truth(case: str, index: int) -> tuple[Array, Array]:
    """Boxes (G, 4) x1, y1, x2, y2 in pixels on a quarter-pixel grid, and labels (G,)."""
    spec = CASES[case]
    (height, width), count = spec.images[index], spec.num_gts[index]
    g = _generator(case, f'gt{index}')
    w = g.integers(width * 4 // 12, width * 4 * 8 // 10, count)
    h = g.integers(height * 4 // 12, height * 4 * 8 // 10, count)
    x = np.array([g.integers(0, width * 4 - v) for v in w], dtype=np.int64)
    y = np.array([g.integers(0, height * 4 - v) for v in h], dtype=np.int64)
    boxes = np.stack([x, y, x + w, y + h], -1).reshape(-1, 4).astype(np.float32) / np.float32(4)
    return boxes, g.integers(0, spec.num_classes, count).astype(np.int64)


def output_size(case: str, index: int) -> tuple[int, int]:
    """(height, width) to which the official post-processing rescaled the detections."""
    height, width = CASES[case].images[index]
    return height * 3 // 2 + 1, width * 3 // 2
