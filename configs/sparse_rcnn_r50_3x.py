_base_ = [
    './_base_/models/sparse_rcnn_r50.py',
    './_base_/datasets/coco_detection.py',
    './_base_/schedules/schedule_3x.py',
    './_base_/default_runtime.py',
]
