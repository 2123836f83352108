"""QueryInst on the quick start's digits, with masks of their ink, and that one's backbone, schedule and sizes.

    sparse-rcnn digits && sparse-rcnn train queryinst_r18_digits
"""
_base_ = './sparse_rcnn_r18_digits.py'

channels = 96
mask_bins = 14  # per side of the RoI features for masks; masks have twice as many

model = dict(
    type='QueryInst',
    roi_head=dict(
        type='MaskedRoIHead',
        mask_head=dict(type='DynamicMaskHead', num_classes=10, in_channels=channels, num_convs=4, feat_channels=32),
        mask_roi_extractor=dict(type='RoIExtractor', strides=[8, 16, 32], output_size=mask_bins)),
    criterion=dict(
        type='MaskCriterion',
        loss_mask=dict(type='DiceLoss', loss_weight=8.0, eps=1e-5),
        normalizer='num_matched'),
    postprocessor=dict(type='TopKMasks'))

train_dataloader = dict(dataset=dict(
    pipeline=[*_base_.train_pipeline[:2], dict(type='LoadMasks'), *_base_.train_pipeline[2:]]))
val_evaluator = dict(metric=['bbox', 'segm'])
test_evaluator = dict(metric=['bbox', 'segm'])
