"""QueryInst, R50, 100 queries, 12 epochs at one image size.

Source: `configs/queryinst/queryinst_r50_fpn_1x_coco.py` of mmdet, which publishes 42.0 box AP and 37.5 mask AP on COCO
val. Not trained here.
"""
_base_ = [
    './_base_/models/queryinst_r50.py',
    './_base_/datasets/coco_instance_800.py',
    './_base_/schedules/schedule_queryinst_1x.py',
    './_base_/default_runtime.py',
]
