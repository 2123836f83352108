"""DDQ R-CNN, R50, 300 distinct queries, 12 epochs at one image size.

Source: `projects/configs/ddq_rcnn/ddq_rcnn_r50_1x.py` of jshilong/DDQ. Its README publishes 44.6 AP on COCO val (noise
0.2). Not trained here.
"""
_base_ = [
    './_base_/models/ddq_rcnn_r50.py',
    './_base_/datasets/coco_detection_800.py',
    './_base_/schedules/schedule_12e.py',
    './_base_/default_runtime.py',
]

lr = 1e-4
weight_decay = 0.05

optim_wrapper = dict(optimizer=dict(lr=lr, weight_decay=weight_decay), clip_grad=None)
