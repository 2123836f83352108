"""The data of the quick start: scattered handwritten digits in their original size, without augmentation."""
# Often changed
data_root = 'data/digits/'
batch_size = 4
num_workers = 0  # decoding takes far less time than training, which keeps two cores busy

# Rarely changed
image_size = 192

train_pipeline = [
    dict(type='LoadRGBImage'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='ResizeShortSide', short_sides=image_size),
    dict(type='ClipBoxes'),
    dict(type='PackDetInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='ResizeShortSide', short_sides=image_size),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='PackDetInputs'),
]

train_dataloader = dict(
    batch_size=batch_size,
    num_workers=num_workers,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        type='DigitsDataset',
        data_root=data_root,
        ann_file='train.json',
        data_prefix=dict(img='train/'),
        pipeline=train_pipeline))
val_dataloader = dict(
    batch_size=batch_size,
    num_workers=num_workers,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='DigitsDataset',
        data_root=data_root,
        ann_file='val.json',
        data_prefix=dict(img='val/'),
        test_mode=True,
        pipeline=test_pipeline))
test_dataloader = val_dataloader

val_evaluator = dict(type='CocoMetric', ann_file=data_root + 'val.json', metric='bbox')
test_evaluator = val_evaluator
