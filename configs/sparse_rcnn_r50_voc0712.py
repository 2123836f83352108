"""Sparse R-CNN, R50, 100 proposals, for Pascal VOC 2007 and 2012.

    sparse-rcnn download voc
    sparse-rcnn train sparse_rcnn_r50_voc0712 --load-from sparse_rcnn_r50_3x --load-partial

The schedule is our own choice: nobody has published one for VOC. Not trained here.
"""
_base_ = [
    './_base_/models/sparse_rcnn_r50.py',
    './_base_/datasets/voc0712.py',
    './_base_/schedules/schedule_voc.py',
    './_base_/default_runtime.py',
]

num_classes = 20

model = dict(roi_head=dict(bbox_head=dict(num_classes=num_classes)))
default_hooks = dict(checkpoint=dict(interval=2_070))
