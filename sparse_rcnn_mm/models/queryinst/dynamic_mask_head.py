"""Predicts a mask from a query and its RoI features (section 3.2 of the paper)."""
from __future__ import annotations

import math
from typing import cast

import torch
from mmcv.cnn import ConvModule
from torch import Tensor, nn

from sparse_rcnn_mm.registry import MODELS

from ..dynamic_conv import DynamicConv


class DynamicMaskConv(DynamicConv):
    """A `DynamicConv` that keeps the spatial layout: maps RoI features (M, P*P, C) to (M, P*P, C)."""

    def __init__(self, *, in_channels: int = 256, feat_channels: int = 64) -> None:
        super().__init__(in_channels=in_channels, feat_channels=feat_channels, input_feat_shape=1)
        del self.fc_layer, self.fc_norm

    def forward(self, queries: Tensor, roi_feats: Tensor) -> Tensor:
        """Queries (M, C) and RoI features (M, P*P, C) to (M, P*P, C)."""
        return self.convolve(roi_feats, *self.kernels(queries))


@MODELS.register_module()
class DynamicMaskHead(nn.Module):
    """Dynamic mask convolution, four convolutions, upsampling, and a mask for every class.

    The submodules have mmdet's names, so that its checkpoints load.

    Args:
        num_classes: K.
        in_channels: C.
        num_convs: the number of 3x3 convolutions, each followed by a batch norm.
        feat_channels: channels between the two dynamic convolutions.
    """

    def __init__(self, *, num_classes: int = 80, in_channels: int = 256, num_convs: int = 4,
                 feat_channels: int = 64) -> None:
        super().__init__()
        self.instance_interactive_conv = DynamicMaskConv(in_channels=in_channels, feat_channels=feat_channels)
        self.convs = nn.ModuleList(ConvModule(in_channels, in_channels, 3, padding=1, norm_cfg=dict(type='BN'))
                                   for _ in range(num_convs))
        self.upsample = nn.ConvTranspose2d(in_channels, in_channels, 2, stride=2)
        self.conv_logits = nn.Conv2d(in_channels, num_classes, 1)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initialize matrices Xavier-uniform and the bias of the logits to zero; keep torch's defaults for the rest."""
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.xavier_uniform_(parameter)
        nn.init.zeros_(cast(Tensor, self.conv_logits.bias))

    def forward(self, mask_feats: Tensor, queries: Tensor, labels: Tensor) -> Tensor:
        """Predict logits (M, 2P, 2P) of the classes `labels` (M,) from RoI features (M, P*P, C) and queries (M, C)."""
        side = math.isqrt(mask_feats.shape[1])
        if not len(labels):
            return self._nothing(2 * side)
        x = self.instance_interactive_conv(queries, mask_feats)
        x = x.unflatten(1, (side, side)).permute(0, 3, 1, 2)
        for conv in self.convs:
            x = conv(x)
        x = self.upsample(x).relu_()
        # One matrix product with the weights of each mask's class, instead of computing the masks of all classes.
        kernel, bias = (parameter[labels] for parameter in self.conv_logits.parameters())
        logits = torch.bmm(kernel.flatten(2).transpose(1, 2), x.flatten(2)) + bias[:, None, None]
        return logits.view(-1, 2 * side, 2 * side)

    def _nothing(self, side: int) -> Tensor:
        """Zero masks, connected to all parameters in the graph: distributed training expects a gradient for each."""
        return torch.stack([parameter.sum() for parameter in self.parameters()]).sum().mul(0).expand(0, side, side)
