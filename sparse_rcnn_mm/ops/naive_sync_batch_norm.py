"""Batch norm over the batches of all processes, which also works on CPUs."""
from __future__ import annotations

from typing import Any

import torch
from mmengine.dist import all_reduce, get_world_size
from torch import Tensor, nn

from sparse_rcnn_mm.ops import at_least_float32
from sparse_rcnn_mm.registry import MODELS


class _SumOverProcesses(torch.autograd.Function):

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        total = x.clone()
        all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:  # every process's loss depends on every process's x
        return _SumOverProcesses.forward(ctx, grad)


@MODELS.register_module()
class NaiveSyncBatchNorm(nn.BatchNorm2d):
    """Batch norm with statistics averaged over all processes, which must hold equal numbers of pixels.

    torch's `SyncBatchNorm` needs a GPU. The idea comes from detectron2's class of the same name. With one process this
    is plain batch norm.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Normalize (B, C, H, W)."""
        world = get_world_size()
        if not self.training or world == 1:
            return super().forward(x)
        full = at_least_float32(x)
        moments = torch.stack([full.mean((0, 2, 3)), full.square().mean((0, 2, 3))])
        mean, square = _SumOverProcesses.apply(moments) / world
        var = square - mean.square()
        count = world * x.numel() // x.shape[1]
        with torch.no_grad():
            for running, now in ((self.running_mean, mean), (self.running_var, var * count / (count - 1))):
                running.lerp_(now, self.momentum)  # type: ignore[union-attr, arg-type]
            self.num_batches_tracked.add_(1)  # type: ignore[union-attr]
        scale = self.weight * (var + self.eps).rsqrt()
        return (full * scale[:, None, None] + (self.bias - mean * scale)[:, None, None]).to(x.dtype)
