"""COCO 2017 with masks and DETR's crop augmentation. Images without boxes are left out."""
_base_ = './coco_detection_crop.py'

train_dataloader = dict(dataset=dict(
    filter_cfg=dict(filter_empty_gt=True, min_size=32),
    pipeline=[*_base_.train_dataloader.dataset.pipeline[:2], dict(type='LoadMasks'),
              *_base_.train_dataloader.dataset.pipeline[2:]]))
val_evaluator = dict(metric=['bbox', 'segm'])
test_evaluator = dict(metric=['bbox', 'segm'])
