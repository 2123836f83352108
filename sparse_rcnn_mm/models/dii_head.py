"""One stage of Sparse R-CNN: the dynamic instance interactive head (section 3.3 of the paper)."""
from __future__ import annotations

import math

from torch import Tensor, nn

from sparse_rcnn_mm.registry import MODELS, Part, build

from .box_ops import decode_boxes
from .roi_extractor import Pyramid
from .structures import Proposals, StageOutput

# The object probability that an untrained classifier predicts (focal loss, arXiv 1708.02002).
PRIOR_PROBABILITY = 0.01


def _tower(channels: int, layers: int) -> nn.ModuleList:
    """`layers` times linear, norm, ReLU, in a flat list because of the numbering in checkpoint keys."""
    return nn.ModuleList(module for _ in range(layers) for module in (
        nn.Linear(channels, channels, bias=False), nn.LayerNorm(channels), nn.ReLU(inplace=True)))


@MODELS.register_module()
class DIIHead(nn.Module):
    """Self-attention among the queries, dynamic convolution with the RoI features, FFN, class and box towers.

    The submodules have mmdet's names, so that its checkpoints load.

    Args:
        num_classes: K.
        in_channels: C.
        num_heads: attention heads.
        feedforward_channels: hidden width of the FFN.
        num_cls_fcs, num_reg_fcs: the numbers of layers of the two towers.
        dynamic_conv: the `DynamicConv`, or its config, whose `in_channels` is C.
        box_weights: the predicted (dx, dy, dw, dh) are divided by these.
    """

    def __init__(self, *, num_classes: int = 80, in_channels: int = 256, num_heads: int = 8,
                 feedforward_channels: int = 2048, num_cls_fcs: int = 1, num_reg_fcs: int = 3,
                 dynamic_conv: Part,
                 box_weights: tuple[float, float, float, float] = (2., 2., 1., 1.)) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.box_weights = box_weights
        self.attention = nn.ModuleDict({'attn': nn.MultiheadAttention(in_channels, num_heads, batch_first=True)})
        self.attention_norm = nn.LayerNorm(in_channels)
        self.instance_interactive_conv = build(MODELS, dynamic_conv, in_channels=in_channels)
        self.instance_interactive_conv_norm = nn.LayerNorm(in_channels)
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
        """Initialize matrices Xavier-uniform and the class bias by the prior probability; the rest as torch does."""
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.xavier_uniform_(parameter)
        nn.init.constant_(self.fc_cls.bias, -math.log((1 - PRIOR_PROBABILITY) / PRIOR_PROBABILITY))

    def forward(self, pyramid: Pyramid, proposals: Proposals | StageOutput) -> StageOutput:
        """Refine boxes and queries once with the features of the image."""
        queries = self.interact(self.attend(proposals.queries), pyramid.roi_feats(proposals.boxes))
        cls_feats = reg_feats = queries
        for layer in self.cls_fcs:
            cls_feats = layer(cls_feats)
        for layer in self.reg_fcs:
            reg_feats = layer(reg_feats)
        boxes = decode_boxes(proposals.boxes, self.fc_reg(reg_feats), self.box_weights)
        return StageOutput(self.fc_cls(cls_feats), boxes, queries)

    def attend(self, queries: Tensor) -> Tensor:
        """Self-attention among the queries (B, N, C) of each image."""
        attended, _ = self.attention['attn'](queries, queries, queries, need_weights=False)
        return self.attention_norm(queries + attended)

    def interact(self, queries: Tensor, roi_feats: Tensor) -> Tensor:
        """Combine each query (B, N, C) with the features (B*N, P*P, C) of its own RoI."""
        interacted = self.instance_interactive_conv(queries.flatten(0, 1), roi_feats).view_as(queries)
        queries = self.instance_interactive_conv_norm(queries + interacted)
        return self.ffn_norm(queries + self.ffn['layers'](queries))
