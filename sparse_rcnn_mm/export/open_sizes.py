"""Parts of other networks in a form whose sizes tracing leaves open."""
from __future__ import annotations

import torch
import torch.nn.functional as F
from mmdet.models.backbones.swin import ShiftWindowMSA
from torch import Tensor, nn


class ExportedShiftedWindows(ShiftWindowMSA):
    """The same numbers as mmdet's module, which computes sizes as floats and writes into slices of a mask.

    Traced from mmdet's module, open sizes do not come to an end, and a fixed size gives other detections.
    Source of the algorithm: Swin Transformer, arXiv 2103.14030, section 3.2.
    """

    def forward(self, query: Tensor, hw_shape: tuple[int, int]) -> Tensor:
        """Attend within windows.

        Args:
            query: (B, H * W, C).
            hw_shape: H and W.

        Returns:
            (B, H * W, C).
        """
        batch, _, channels = query.shape
        height, width = hw_shape
        side, shift = self.window_size, self.shift_size
        rows, columns = (height + side - 1) // side, (width + side - 1) // side
        x = query.reshape(batch, height, width, channels)
        x = F.pad(x, (0, 0, 0, columns * side - width, 0, rows * side - height))
        mask = None
        if shift:
            x = x.roll((-shift, -shift), (1, 2))
            regions = (3 * self._regions(rows, x.device)[:, None] + self._regions(columns, x.device))[None, :, :, None]
            region = _windows(regions, rows, columns, side)[..., 0]
            mask = -100. * (region[:, None] != region[:, :, None])
        x = self.w_msa(_windows(x, rows, columns, side), mask=mask)
        x = x.reshape(batch, rows, columns, side, side, channels).transpose(2, 3)
        x = x.reshape(batch, rows * side, columns * side, channels)
        if shift:
            x = x.roll((shift, shift), (1, 2))
        return self.drop(x[:, :height, :width].reshape(batch, height * width, channels))

    def _regions(self, count: int, device: torch.device) -> Tensor:
        """Number the pixels of an axis of `count` windows by region (0 to 2): they attend only within their own."""
        at = torch.arange(count * self.window_size, device=device) - count * self.window_size
        return (at >= -self.window_size).long() + (at >= -self.shift_size).long()


def _windows(x: Tensor, rows: int, columns: int, side: int) -> Tensor:
    """Cut maps (B, rows * side, columns * side, C) into (B * rows * columns, side * side, C)."""
    batch, channels = x.shape[0], x.shape[3]
    x = x.reshape(batch, rows, side, columns, side, channels).transpose(2, 3)
    return x.reshape(batch * rows * columns, side * side, channels)


class ExportedAveragePool(nn.AdaptiveAvgPool2d):
    """Average pooling to a given size, as matrix products. Tracing makes the windows of PyTorch's own constant."""

    def forward(self, x: Tensor) -> Tensor:
        """Pool (B, C, H, W)."""
        size = self.output_size
        height, width = size if isinstance(size, tuple) else (size, size)
        return _averages(x, 2, height) @ x @ _averages(x, 3, width).mT


def _averages(x: Tensor, axis: int, count: int | None) -> Tensor:
    """The matrix (count, length) that averages an axis of `x` over `count` windows; None keeps its length."""
    length = x.shape[axis]
    count = length if count is None else count
    window = torch.arange(count, device=x.device)
    start, end = window * length // count, ((window + 1) * length + count - 1) // count
    at = torch.arange(length, device=x.device)
    inside = (at >= start[:, None]) & (at < end[:, None])
    return inside.to(x.dtype) / (end - start)[:, None]
