"""Pastes the masks of boxes into bitmaps of the image."""
from __future__ import annotations

import torch
from torch import Tensor

from sparse_rcnn_mm.runtime import masks as of_arrays


@torch.no_grad()
def paste_masks(masks: Tensor, boxes: Tensor, height: int, width: int) -> Tensor:
    """Paste probabilities (n, h, w) into boxes (n, 4). Returns bitmaps (n, height, width) bool, on the host.

    Exported files are used without PyTorch, so this is written in NumPy: see `runtime.masks`.
    """
    boxes = boxes.to(masks.dtype)
    return torch.from_numpy(of_arrays.paste_masks(masks.cpu().numpy(), boxes.cpu().numpy(), height, width))
