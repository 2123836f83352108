"""COCO 2017 with masks, and mmdet's augmentation for QueryInst: flip, and a short side of 480 to 800 pixels.

Images without boxes are left out.
"""
_base_ = './coco_detection.py'

train_dataloader = dict(dataset=dict(
    filter_cfg=dict(filter_empty_gt=True, min_size=32),
    pipeline=[*_base_.train_pipeline[:2], dict(type='LoadMasks'), *_base_.train_pipeline[2:]]))
val_evaluator = dict(metric=['bbox', 'segm'])
test_evaluator = dict(metric=['bbox', 'segm'])
