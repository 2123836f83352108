"""COCO 2017 with masks: flip, and a short side of 800 pixels. Images without boxes are left out."""
_base_ = './coco_instance.py'

train_short_side = 800

train_dataloader = dict(dataset=dict(pipeline=[
    *_base_.train_pipeline[:2],
    dict(type='LoadMasks'),
    _base_.train_pipeline[2],  # flip
    dict(type='ResizeShortSide', short_sides=train_short_side, max_long_side=_base_.max_long_side),
    *_base_.train_pipeline[4:],  # clip and pack
]))
