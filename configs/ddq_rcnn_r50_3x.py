"""DDQ R-CNN, R50, 300 distinct queries, 36 epochs with random crops.

Source: `projects/configs/ddq_rcnn/ddq_rcnn_r50_3x.py` of jshilong/DDQ. Its README publishes 48.1 AP on COCO val. Not
trained here.
"""
_base_ = [
    './_base_/models/ddq_rcnn_r50.py',
    './_base_/datasets/coco_detection_crop.py',
    './_base_/schedules/schedule_36e.py',
    './_base_/default_runtime.py',
]

lr = 1e-4
weight_decay = 0.05
warmup_iters = 2_000

train_dataloader = dict(dataset=dict(filter_cfg=dict(filter_empty_gt=True, min_size=32)))
optim_wrapper = dict(optimizer=dict(lr=lr, weight_decay=weight_decay), clip_grad=dict(max_norm=10))
param_scheduler = _base_.param_scheduler
param_scheduler[0].start_factor = 1e-4
param_scheduler[0].end = warmup_iters + 1
