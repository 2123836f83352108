"""One stage of AdaMixer (figure 3 of the paper)."""
from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from sparse_rcnn_mm.ops import at_least_float32
from sparse_rcnn_mm.registry import MODELS

from ..dii_head import PRIOR_PROBABILITY
from ..structures import Proposals, StageOutput
from .point_sampler import PointPyramid
from .sampling_and_mixing import SamplingAndMixing
from .xyzr import AdaMixerOutput, boxes_of, encode, move, xyzr_of


@MODELS.register_module()
class AdaMixerStage(nn.Module):
    """Self-attention with box positions, sampling at predicted points, adaptive mixing, FFN, class and box towers.

    The submodules have the official names (MCG-NJU/AdaMixer), so that its checkpoints load.

    Args:
        num_classes: K.
        in_channels: C.
        num_heads: attention heads.
        feedforward_channels: hidden width of the FFN.
        num_cls_fcs, num_reg_fcs: layers of the two towers.
        groups: G, groups of channels, each with its own points.
        in_points: P, sampled points per group.
        out_points: points per group after mixing.
    """

    def __init__(self, *, num_classes: int = 80, in_channels: int = 256, num_heads: int = 8,
                 feedforward_channels: int = 2048, num_cls_fcs: int = 1, num_reg_fcs: int = 1, groups: int = 4,
                 in_points: int = 32, out_points: int = 128) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.iof_tau = nn.Parameter(torch.ones(num_heads))
        self.attention = nn.ModuleDict({'attn': nn.MultiheadAttention(in_channels, num_heads, batch_first=True)})
        self.attention_norm = nn.LayerNorm(in_channels)
        self.sampling_n_mixing = SamplingAndMixing(in_channels, groups, in_points, out_points)
        self.ffn = nn.ModuleDict({'layers': nn.Sequential(
            nn.Sequential(nn.Linear(in_channels, feedforward_channels), nn.ReLU(inplace=True)),
            nn.Linear(feedforward_channels, in_channels))})
        self.ffn_norm = nn.LayerNorm(in_channels)
        self.cls_fcs = _tower(in_channels, num_cls_fcs)
        self.reg_fcs = _tower(in_channels, num_reg_fcs)
        self.fc_cls = nn.Linear(in_channels, num_classes)
        self.fc_reg = nn.Linear(in_channels, 4)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initialize matrices Xavier-uniform. At first, boxes do not move and points do not depend on the query."""
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.xavier_uniform_(parameter)
        nn.init.constant_(self.fc_cls.bias, -math.log((1 - PRIOR_PROBABILITY) / PRIOR_PROBABILITY))
        nn.init.zeros_(self.fc_reg.weight)
        nn.init.zeros_(self.fc_reg.bias)
        nn.init.uniform_(self.iof_tau, 0, 4)
        self.sampling_n_mixing.reset_parameters()

    def forward(self, pyramid: PointPyramid, proposals: Proposals | StageOutput | AdaMixerOutput) -> AdaMixerOutput:
        """Refine states and queries once with the features of the image."""
        xyzr = xyzr_of(proposals)
        queries = self.attend(proposals.queries, xyzr)
        points = self.sampling_n_mixing.points(queries, xyzr)
        queries = self.sampling_n_mixing(pyramid, queries, points)
        queries = self.ffn_norm(queries + self.ffn['layers'](queries))
        xyzr = move(xyzr, at_least_float32(self.fc_reg(self.reg_fcs(queries))))
        return AdaMixerOutput(self.fc_cls(self.cls_fcs(queries)), boxes_of(xyzr), queries, xyzr, points.detach())

    def attend(self, queries: Tensor, xyzr: Tensor) -> Tensor:
        """Self-attention among the queries (B, N, C) of each image, with encoded boxes and an overlap bias."""
        queries = queries + encode(xyzr, queries.shape[-1]).to(queries.dtype)
        covered = (intersection_over_first(boxes_of(xyzr)) + 1e-7).log()
        bias = (covered[:, None] * self.iof_tau[:, None, None]).flatten(0, 1).to(queries.dtype)
        # `need_weights` selects plain matrix products, as in the official code. The fused kernel rounds differently,
        # and some stages later the difference can flip a ReLU.
        attended, _ = self.attention['attn'](queries, queries, queries, attn_mask=bias, need_weights=True)
        # As in the official code, the residual connection includes the encoded state.
        return self.attention_norm(queries + attended)

    def for_prediction(self, classify: bool, queries: Tensor | None) -> AdaMixerStage:
        """Remove the classifier if its logits are not needed; see `acceleration.prediction.fast_form`."""
        if not classify:
            self.cls_fcs, self.fc_cls = nn.Sequential(), NoLogits()  # type: ignore[assignment]
        return self


class NoLogits(nn.Module):
    """Placeholder for an unused classifier."""

    def forward(self, x: Tensor) -> Tensor:
        """Return logits without classes."""
        return x[..., :0]


def _tower(channels: int, layers: int) -> nn.Sequential:
    """`layers` times linear, norm, ReLU, flat because of the numbering in checkpoint keys."""
    return nn.Sequential(*(module for _ in range(layers) for module in (
        nn.Linear(channels, channels), nn.LayerNorm(channels), nn.ReLU(inplace=True))))


def intersection_over_first(boxes: Tensor) -> Tensor:
    """(B, N, 4) to (B, N, N): the part of the first box's area that the second box covers."""
    a, b = boxes[:, :, None], boxes[:, None]
    side = (torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2])).clamp(min=0)
    size = boxes[..., 2:] - boxes[..., :2]
    # The smallest area that mmdet divides by.
    area = (size[..., 0] * size[..., 1]).clamp(min=1e-6)
    return side[..., 0] * side[..., 1] / area[..., None]
