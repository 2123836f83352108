"""Batch norm over the batches of all processes, on CPUs too."""
from __future__ import annotations

import torch
from mmengine.dist import get_world_size
from torch import Tensor, nn
from torch.distributed.nn.functional import all_reduce

from sparse_rcnn_mm.registry import MODELS


@MODELS.register_module()
class NaiveSyncBatchNorm(nn.BatchNorm2d):
    """Batch norm whose statistics are averaged over the processes, which must hold equal numbers of pixels.

    torch's own needs a GPU. The idea is detectron2's class of the same name. With one process it is plain batch norm.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same shape."""
        world = get_world_size()
        if not self.training or world == 1:
            return super().forward(x)
        moments = torch.stack([x.mean((0, 2, 3)), x.square().mean((0, 2, 3))])
        mean, square = all_reduce(moments) / world
        var = square - mean.square()
        count = world * x.numel() // x.shape[1]
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(var * count / (count - 1), self.momentum)
        scale = self.weight * (var + self.eps).rsqrt()
        return x * scale[:, None, None] + (self.bias - mean * scale)[:, None, None]
