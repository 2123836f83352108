"""QueryInst, R50, 100 queries, 36 epochs.

Source: `configs/queryinst/queryinst_r50_fpn_ms-480-800-3x_coco.py` of mmdet, which publishes 44.8 box AP and 39.8 mask
AP on COCO val. Not trained here.
"""
_base_ = [
    './_base_/models/queryinst_r50.py',
    './_base_/datasets/coco_instance.py',
    './_base_/schedules/schedule_queryinst_3x.py',
    './_base_/default_runtime.py',
]
