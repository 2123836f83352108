"""AdaMixer, R50, 300 queries, 36 epochs with random crops.

Source: `configs/adamixer/adamixer_r50_300_query_crop_mstrain_480-800_3x_coco.py` of MCG-NJU/AdaMixer, whose
learning rate falls after 24 and 33 epochs. Its README publishes 47.0 AP on COCO val (46.8 reproduced).
Not trained here.
"""
_base_ = [
    './_base_/models/adamixer_r50.py',
    './_base_/datasets/coco_detection_crop.py',
    './_base_/schedules/schedule_36e.py',
    './_base_/default_runtime.py',
]

milestones = [24 * _base_.epoch, 33 * _base_.epoch]

model = dict(rpn_head=dict(num_proposals=300))
train_dataloader = dict(dataset=dict(filter_cfg=dict(filter_empty_gt=True, min_size=32)))
param_scheduler = _base_.param_scheduler
param_scheduler[1].milestones = milestones
