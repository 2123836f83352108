"""Exchanges channels between neighboring levels, so that each level knows what the others predict."""
from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def pyramid_shuffle(feats: Sequence[Tensor], channels: int) -> list[Tensor]:
    """Levels (B, C, H_l, W_l), finest first, to levels of the same shapes.

    A level keeps all but its last 2 * `channels` channels. They are replaced by the last `channels` of the coarser
    level, followed by the second to last `channels` of the finer level. The first and last level use their own.
    """
    result = []
    for level, feat in enumerate(feats):
        coarser, finer = feats[min(level + 1, len(feats) - 1)], feats[max(level - 1, 0)]
        parts = coarser[:, -channels:], finer[:, -2 * channels:-channels]
        resized = [F.interpolate(part, feat.shape[2:], mode='bilinear', align_corners=True) for part in parts]
        result.append(torch.cat([feat[:, :-2 * channels], *resized], dim=1))
    return result
