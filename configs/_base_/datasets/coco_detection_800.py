"""COCO 2017 with mmdet's 1x augmentation: flip, and a short side of 800 pixels. Images without boxes are left out."""
_base_ = './coco_detection.py'

train_short_side = 800

train_dataloader = dict(dataset=dict(
    filter_cfg=dict(filter_empty_gt=True, min_size=32),
    pipeline=[
        *_base_.train_pipeline[:3],  # load and flip
        dict(type='ResizeShortSide', short_sides=train_short_side, max_long_side=_base_.max_long_side),
        *_base_.train_pipeline[4:],  # clip and pack
    ]))
