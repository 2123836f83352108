"""Sparse R-CNN, R50, 500 proposals, for CrowdHuman.

    python tools/train.py configs/sparse_rcnn_r50_500pro_crowdhuman.py --data FOLDER    # with the odgt files

or without --data after `sparse-rcnn crowd convert`; see docs/crowdhuman.md. Source of the numbers:
`sparsercnn.crowdhuman.res50.500pro.50e.yaml` of PeizeSun/SparseR-CNN. Not trained here.
"""
_base_ = [
    './_base_/models/sparse_rcnn_r50.py',
    './_base_/datasets/crowdhuman_detection.py',
    './_base_/schedules/schedule_crowdhuman.py',
    './_base_/default_runtime.py',
]

num_classes = 1
num_proposals = 500

model = dict(rpn_head=dict(num_proposals=num_proposals), roi_head=dict(bbox_head=dict(num_classes=num_classes)))
default_hooks = dict(checkpoint=dict(interval=5_000))
