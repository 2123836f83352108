"""Pascal VOC: training on trainval of 2007 and 2012, testing on test of 2007. The augmentation is that of COCO."""
_base_ = './coco_detection.py'

# Often changed
data_root = 'data/voc/'

# Rarely changed
test_file = 'annotations/voc2007_test.json'

train_dataloader = dict(dataset=dict(
    type='PascalVocDataset',
    data_root=data_root,
    ann_file='annotations/voc0712_trainval.json',
    data_prefix=dict(img='VOCdevkit/')))
val_dataloader = dict(dataset=dict(
    type='PascalVocDataset',
    data_root=data_root,
    ann_file=test_file,
    data_prefix=dict(img='VOCdevkit/')))
test_dataloader = val_dataloader

# The metric of the challenge is that of 2007, by 11 points; the one by area is logged too.
val_evaluator = [
    dict(type='CocoMetric', ann_file=data_root + test_file, metric='bbox'),
    dict(type='PascalVocMetric', ann_file=data_root + test_file, metric='bbox'),
]
test_evaluator = val_evaluator
