"""COCO 2017 with the official augmentation: flip, then a short side of 480 to 800 pixels."""
# Often changed
data_root = 'data/coco/'
batch_size = 2  # images per GPU, so 16 on the official 8 GPUs
num_workers = 2  # per GPU

# Rarely changed
train_short_sides = tuple(range(480, 801, 32))
test_short_side = 800
max_long_side = 1333
backend_args = None

train_pipeline = [
    dict(type='LoadRGBImage', backend_args=backend_args),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='RandomFlip', prob=0.5),
    dict(type='ResizeShortSide', short_sides=train_short_sides, max_long_side=max_long_side),
    dict(type='ClipBoxes'),
    dict(type='PackDetInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile', backend_args=backend_args),
    dict(type='ResizeShortSide', short_sides=test_short_side, max_long_side=max_long_side),
    # loaded after resizing, because pictures show the ground truth on the original image
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='PackDetInputs'),
]

train_dataloader = dict(
    batch_size=batch_size,
    num_workers=num_workers,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    batch_sampler=dict(type='AspectRatioBatchSampler'),
    dataset=dict(
        type='CocoDataset',
        data_root=data_root,
        ann_file='annotations/instances_train2017.json',
        data_prefix=dict(img='train2017/'),
        pipeline=train_pipeline,
        backend_args=backend_args))
val_dataloader = dict(
    batch_size=1,
    num_workers=num_workers,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='CocoDataset',
        data_root=data_root,
        ann_file='annotations/instances_val2017.json',
        data_prefix=dict(img='val2017/'),
        test_mode=True,
        pipeline=test_pipeline,
        backend_args=backend_args))
test_dataloader = val_dataloader

val_evaluator = dict(
    type='CocoMetric',
    ann_file=data_root + 'annotations/instances_val2017.json',
    metric='bbox',
    backend_args=backend_args)
test_evaluator = val_evaluator
