"""COCO 2017 with the official crop augmentation, as the 300-proposal models use it."""
_base_ = './coco_detection.py'

crop_short_sides = (400, 500, 600)  # before cropping, whatever the long side
crop_sides = (384, 600)

train_dataloader = dict(dataset=dict(pipeline=[
    *_base_.train_pipeline[:3],  # load and flip
    dict(
        type='RandomApply',
        prob=0.5,
        transforms=[
            dict(type='ResizeShortSide', short_sides=crop_short_sides),
            dict(type='RandomCropRange', min_side=crop_sides[0], max_side=crop_sides[1]),
        ]),
    *_base_.train_pipeline[3:],  # resize to one of train_short_sides, clip and pack
]))
