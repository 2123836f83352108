"""Dynamic instance interaction (section 3.3 of the paper)."""
from __future__ import annotations

import torch
from torch import Tensor, nn

from sparse_rcnn_mm.ops.wide_linear import wide_linear
from sparse_rcnn_mm.registry import MODELS


@MODELS.register_module()
class DynamicConv(nn.Module):
    """Two 1x1 convolutions on the features of each RoI. A linear layer computes their kernels from its query.

    Args:
        in_channels: C, the channels of queries and RoI features.
        feat_channels: channels between the two convolutions.
        input_feat_shape: P, bins per side of the RoI features.
    """

    def __init__(self, *, in_channels: int = 256, feat_channels: int = 64, input_feat_shape: int = 7) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.feat_channels = feat_channels
        self.dynamic_layer = nn.Linear(in_channels, 2 * in_channels * feat_channels)
        self.norm_in = nn.LayerNorm(feat_channels)
        self.norm_out = nn.LayerNorm(in_channels)
        self.fc_layer = nn.Linear(in_channels * input_feat_shape**2, in_channels)
        self.fc_norm = nn.LayerNorm(in_channels)

    def kernels(self, queries: Tensor) -> tuple[Tensor, Tensor]:
        """Queries (M, C) to the in-kernels (M, C, feat_channels) and the out-kernels (M, feat_channels, C)."""
        # Two layers of half the size, because splitting the output of one layer would copy its gradient.
        halves = zip(self.dynamic_layer.weight.chunk(2), self.dynamic_layer.bias.chunk(2), strict=True)
        kernel_in, kernel_out = (wide_linear(queries, weight, bias) for weight, bias in halves)
        return (kernel_in.view(-1, self.in_channels, self.feat_channels),
                kernel_out.view(-1, self.feat_channels, self.in_channels))

    def forward(self, queries: Tensor, roi_feats: Tensor) -> Tensor:
        """Queries (M, C) and RoI features (M, P*P, C) to (M, C)."""
        x = self.convolve(roi_feats, *self.kernels(queries))
        return self.fc_norm(self.fc_layer(x.flatten(1))).relu_()

    def convolve(self, roi_feats: Tensor, kernel_in: Tensor, kernel_out: Tensor) -> Tensor:
        """RoI features (M, P*P, C) and their kernels to (M, P*P, C)."""
        x = self.norm_in(torch.bmm(roi_feats, kernel_in)).relu_()
        return self.norm_out(torch.bmm(x, kernel_out)).relu_()
