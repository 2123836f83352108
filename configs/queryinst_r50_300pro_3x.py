"""QueryInst, R50, 300 queries, 36 epochs with random crops.

Source: `configs/queryinst/queryinst_r50_fpn_300-proposals_crop-ms-480-800-3x_coco.py` of mmdet, which publishes 47.5
box AP and 41.7 mask AP on COCO val. Not trained here.
"""
_base_ = [
    './_base_/models/queryinst_r50.py',
    './_base_/datasets/coco_instance_crop.py',
    './_base_/schedules/schedule_queryinst_3x.py',
    './_base_/default_runtime.py',
]

model = dict(rpn_head=dict(num_proposals=300))
