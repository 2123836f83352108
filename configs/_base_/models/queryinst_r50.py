"""QueryInst (arXiv 2105.01928) with the numbers of mmdet's configs."""
_base_ = './sparse_rcnn_r50.py'

# Often changed
num_classes = 80
num_proposals = 100
# Sometimes changed
channels = 256
strides = [4, 8, 16, 32]
mask_bins = 14  # per side of the RoI features for masks; masks have twice as many

model = dict(
    type='QueryInst',
    backbone=dict(norm_cfg=dict(requires_grad=True)),
    rpn_head=dict(num_proposals=num_proposals),
    roi_head=dict(
        type='MaskedRoIHead',
        bbox_head=dict(num_classes=num_classes),
        mask_head=dict(
            type='DynamicMaskHead',
            num_classes=num_classes,
            in_channels=channels,
            num_convs=4,
            feat_channels=64),
        mask_roi_extractor=dict(type='RoIExtractor', strides=strides, output_size=mask_bins)),
    criterion=dict(
        type='MaskCriterion',
        loss_mask=dict(type='DiceLoss', loss_weight=8.0, eps=1e-5),
        normalizer='num_matched'),
    postprocessor=dict(type='TopKMasks'))
