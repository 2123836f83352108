# sparse-rcnn train sparse_rcnn_r50_finetune --data FOLDER --load-from sparse_rcnn_r50_3x
_base_ = [
    './_base_/models/sparse_rcnn_r50.py',
    './_base_/datasets/coco_detection.py',
    './_base_/schedules/schedule_finetune.py',
    './_base_/default_runtime.py',
]

load_partial = True  # classifiers of other classes are not loaded
train_dataloader = dict(batch_size=4, num_workers=4, sampler=dict(type='DefaultSampler'))
default_hooks = dict(
    logger=dict(interval=10),
    checkpoint=dict(by_epoch=True, interval=1, max_keep_ckpts=1, save_best='coco/bbox_mAP', rule='greater'))
log_processor = dict(by_epoch=True, window_size=10)
