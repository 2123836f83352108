"""Boxes as center, scale and aspect ratio (section 3.2 of the paper), and the tuples that carry them."""
from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from sparse_rcnn_mm.ops import at_least_float32

from ..box_ops import cxcywh_to_xyxy
from ..structures import Proposals, StageOutput

# x, y, z and r are divided by these before they are encoded (MCG-NJU/AdaMixer).
ENCODED_UNITS = (1000., 1000., 1., 1.)
TEMPERATURE = 10_000


class XYZRProposals(NamedTuple):
    """Proposals with their state. Unlike the corners, it represents tiny boxes exactly."""
    boxes: Tensor  # (B, N, 4)
    queries: Tensor  # (B, N, C)
    xyzr: Tensor  # (B, N, 4)


class AdaMixerOutput(NamedTuple):
    """The output of a stage, with the state of its boxes and the sampled points."""
    logits: Tensor  # (B, N, K)
    boxes: Tensor  # (B, N, 4)
    queries: Tensor  # (B, N, C)
    xyzr: Tensor  # (B, N, 4)
    points: Tensor  # (B, N, G, P, 3), no gradient


def xyzr_of(proposals: Proposals | StageOutput | XYZRProposals | AdaMixerOutput) -> Tensor:
    """The state (B, N, 4) of proposals, computed from the boxes if they have none. Detached, as in the official code.

    Boxes without area, such as the padding of DDQ's proposals, count as a thousandth of a pixel.
    """
    if isinstance(proposals, (XYZRProposals, AdaMixerOutput)):
        return at_least_float32(proposals.xyzr.detach())
    boxes = at_least_float32(proposals.boxes.detach())
    width, height = (boxes[..., 2:] - boxes[..., :2]).clamp(min=1e-3).split(1, dim=-1)
    centre = (boxes[..., :2] + boxes[..., 2:]) / 2
    return torch.cat([centre, (width * height).log2() / 2, (height / width).log2()], dim=-1)


def size_of(xyzr: Tensor) -> Tensor:
    """States (..., 4) to width and height (..., 2) in pixels."""
    half_r = xyzr[..., 3:] / 2
    # Not 2^(z - r/2), because that difference would lose a digit in float32.
    return 2.**xyzr[..., 2:3] * 2.**torch.cat([-half_r, half_r], dim=-1)


def boxes_of(xyzr: Tensor) -> Tensor:
    """States (..., 4) to boxes (..., 4)."""
    return cxcywh_to_xyxy(torch.cat([xyzr[..., :2], size_of(xyzr)], dim=-1))


def move(xyzr: Tensor, deltas: Tensor) -> Tensor:
    """Shift the centers by multiples of the box scale, and add to scale and ratio. All are (..., 4)."""
    scale = 2.**xyzr[..., 2:3]
    return torch.cat([xyzr[..., :2] + deltas[..., :2] * scale, xyzr[..., 2:] + deltas[..., 2:]], dim=-1)


def encode(xyzr: Tensor, channels: int) -> Tensor:
    """Encode a state as alternating sines and cosines (B, N, channels), a quarter of the channels per number."""
    units = xyzr.new_tensor(ENCODED_UNITS)
    exponent = torch.arange(0, channels // 4, 2, device=xyzr.device, dtype=xyzr.dtype) / (channels // 4)
    angle = (xyzr / units)[..., None] / TEMPERATURE**exponent
    return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(-3)
