"""CrowdHuman with the authors' sizes: a flip, then a short side of 640 to 800 pixels and a long side up to 1,500."""
_base_ = './coco_detection.py'

# Often changed
data_root = 'data/crowdhuman/'

# Rarely changed
classes = ('person',)
train_short_sides = tuple(range(640, 801, 32))
train_max_long_side = 1500  # testing keeps 800 and 1,333

train_dataloader = dict(dataset=dict(
    data_root=data_root,
    ann_file='annotations/train.json',
    data_prefix=dict(img='CrowdHuman_train/'),
    metainfo=dict(classes=classes),
    pipeline=[
        *_base_.train_pipeline[:3],  # load and flip
        dict(type='ResizeShortSide', short_sides=train_short_sides, max_long_side=train_max_long_side),
        *_base_.train_pipeline[4:],  # clip and pack
    ]))
val_dataloader = dict(dataset=dict(
    data_root=data_root,
    ann_file='annotations/val.json',
    data_prefix=dict(img='CrowdHuman_val/'),
    metainfo=dict(classes=classes)))
test_dataloader = val_dataloader

val_evaluator = dict(_delete_=True, type='CrowdHumanMetric', ann_file=data_root + 'annotations/val.json')
test_evaluator = val_evaluator
