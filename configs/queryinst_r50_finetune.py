"""QueryInst, R50, 100 queries, for a small data set with masks.

    sparse-rcnn train queryinst_r50_finetune --data FOLDER --load-from CHECKPOINT

The schedule is that of `sparse_rcnn_r50_finetune`, with mmdet's learning rates and clipping for QueryInst.
"""
_base_ = [
    './_base_/models/queryinst_r50.py',
    './_base_/datasets/coco_instance.py',
    './_base_/schedules/schedule_finetune.py',
    './_base_/default_runtime.py',
]

lr = 1e-4  # for `accumulate_to` images per step; the backbone's is a tenth of it
max_norm = 0.1  # of the gradients

load_partial = True  # classifiers of other classes are not loaded
train_dataloader = dict(batch_size=4, num_workers=4, sampler=dict(type='DefaultSampler'))
optim_wrapper = dict(
    optimizer=dict(lr=lr),
    paramwise_cfg=dict(custom_keys=dict(backbone=dict(lr_mult=0.1, decay_mult=1.0))),
    clip_grad=dict(max_norm=max_norm))
custom_hooks = _base_.custom_hooks
custom_hooks[1].monitor = 'coco/segm_mAP'
default_hooks = dict(
    logger=dict(interval=10),
    checkpoint=dict(by_epoch=True, interval=1, max_keep_ckpts=1, save_best='coco/segm_mAP', rule='greater'))
log_processor = dict(by_epoch=True, window_size=10)
