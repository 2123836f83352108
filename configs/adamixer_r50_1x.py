"""AdaMixer, R50, 100 queries, 12 epochs at one image size.

Source: `configs/adamixer/adamixer_r50_1x_coco.py` of MCG-NJU/AdaMixer. Its README publishes 42.7 AP on COCO val (42.6
reproduced; noise 0.3). Not trained here.
"""
_base_ = [
    './_base_/models/adamixer_r50.py',
    './_base_/datasets/coco_detection_800.py',
    './_base_/schedules/schedule_12e.py',
    './_base_/default_runtime.py',
]
