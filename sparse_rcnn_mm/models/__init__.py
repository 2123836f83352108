"""The model. One concept per file. State is tensors; data samples appear only in `sparse_rcnn.py`.

Tensor legend (B images, N proposals, C channels, K classes, S stages, P RoI size, T ground truths of the batch):

    feats       L x (B, C, H_l, W_l)  FPN levels, finest first (p2..p5, strides 4, 8, 16, 32)
    boxes       (B, N, 4)             x1, y1, x2, y2 in pixels of the resized, unpadded image; unclipped between stages
    queries     (B, N, C)             proposal features; gradient flows through all stages
    roi_feats   (B*N, P*P, C)         pooled features, in the layout for dynamic convolution
    logits      (B, N, K)             before sigmoid
    deltas      (B, N, 4)             dx, dy, dw, dh, divided by (2, 2, 1, 1) when decoding
    img_whwh    (B, 1, 4)             w, h, w, h of `img_shape`, before padding
    matched_gt  (S, B, N) long        index into the image's ground truths, -1 is background

Read in this order: sparse_rcnn, embedding_rpn_head, sparse_roi_head, roi_extractor, dii_head, dynamic_conv; then
set_criterion, hungarian_assigner, match_costs, losses; box_ops and top_k when they are used.
"""

from .dii_head import DIIHead
from .dynamic_conv import DynamicConv
from .embedding_rpn_head import EmbeddingRPNHead
from .hungarian_assigner import HungarianAssigner
from .losses import FocalLoss, GIoULoss, L1Loss
from .match_costs import BBoxL1Cost, FocalLossCost, IoUCost
from .roi_extractor import RoIExtractor
from .set_criterion import Criteria, SetCriterion
from .sparse_rcnn import SparseRCNN
from .sparse_roi_head import SparseRoIHead
from .top_k import TopKDetections

__all__ = [
    'BBoxL1Cost', 'Criteria', 'DIIHead', 'DynamicConv', 'EmbeddingRPNHead', 'FocalLoss', 'FocalLossCost', 'GIoULoss',
    'HungarianAssigner', 'IoUCost', 'L1Loss', 'RoIExtractor', 'SetCriterion', 'SparseRCNN',
    'SparseRoIHead', 'TopKDetections',
]
