"""QueryInst: Instances as Queries (arXiv 2105.01928), Sparse R-CNN with a mask head at every stage.

This adds to the tensor legend of `sparse_rcnn_mm.models` (M requested masks, k detections per image):

    mask_feats   (M, P*P, C)      RoI features for masks, P = 14
    masks        (M, 2P, 2P)      masks of boxes: logits or probabilities of one class each
    bitmaps      (n, H, W) bool   masks in the coordinates of the image

Read in this order: queryinst, structures, masked_roi_head, dynamic_mask_head; then mask_criterion, mask_targets;
top_k_masks, pasting.
"""
from .dynamic_mask_head import DynamicMaskHead
from .mask_criterion import DiceLoss, MaskCriterion
from .masked_roi_head import MaskedRoIHead
from .queryinst import QueryInst
from .structures import MaskedDetections, MaskedGroundTruth, MaskedStageOutput
from .top_k_masks import TopKMasks

__all__ = [
    'DiceLoss', 'DynamicMaskHead', 'MaskCriterion', 'MaskedDetections', 'MaskedGroundTruth', 'MaskedRoIHead',
    'MaskedStageOutput', 'QueryInst', 'TopKMasks',
]
