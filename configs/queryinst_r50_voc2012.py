"""QueryInst, R50, 100 queries, for the masks of Pascal VOC 2012.

    sparse-rcnn download voc --splits trainval2012
    sparse-rcnn train queryinst_r50_voc2012 --load-from CHECKPOINT

Train and val are those of the segmentation task: 1,464 and 1,449 images. That is few, so start from a checkpoint that
was trained on COCO. The schedule is that of `queryinst_r50_finetune`. Not trained here.
"""
_base_ = './queryinst_r50_finetune.py'

# Often changed
data_root = 'data/voc/'

# Rarely changed
num_classes = 20
val_file = 'annotations/voc2012_val_masks.json'
kinds = ['bbox', 'segm']

model = dict(roi_head=dict(bbox_head=dict(num_classes=num_classes), mask_head=dict(num_classes=num_classes)))

train_dataloader = dict(dataset=dict(
    type='PascalVocDataset',
    data_root=data_root,
    ann_file='annotations/voc2012_train_masks.json',
    data_prefix=dict(img='VOCdevkit/')))
val_dataloader = dict(dataset=dict(
    type='PascalVocDataset',
    data_root=data_root,
    ann_file=val_file,
    data_prefix=dict(img='VOCdevkit/')))
test_dataloader = val_dataloader

val_evaluator = [
    dict(type='CocoMetric', ann_file=data_root + val_file, metric=kinds),
    dict(type='PascalVocMetric', ann_file=data_root + val_file, metric=kinds),
]
test_evaluator = val_evaluator
