"""Sparse R-CNN, PVTv2-B2, 300 proposals, one image on each of 8 GPUs.

Source of the numbers: `sparse_rcnn_pvt_v2_b2_fpn_300_proposals_crop_mstrain_480-800_3x_coco.py` of whai362/PVT, and the
README of PeizeSun/SparseR-CNN, which publishes 50.1 AP. Not trained here.
"""
_base_ = [
    './_base_/models/sparse_rcnn_r50.py',
    './_base_/datasets/coco_detection_crop.py',
    './_base_/schedules/schedule_36e_8.py',
    './_base_/default_runtime.py',
]

batch_size = 1  # images per GPU
lr = 2.5e-5 / 1.4  # about 2.5e-5 / sqrt(2), for half of the usual images a step
pretrained = dict(type='Pretrained', checkpoint='https://github.com/whai362/PVT/releases/download/v2/pvt_v2_b2.pth')

model = dict(
    backbone=dict(
        _delete_=True,
        type='PyramidVisionTransformerV2',
        embed_dims=64,
        num_layers=[3, 4, 6, 3],
        out_indices=(0, 1, 2, 3),
        init_cfg=pretrained),
    neck=dict(in_channels=[64, 128, 320, 512]),
    rpn_head=dict(num_proposals=300))
train_dataloader = dict(batch_size=batch_size, dataset=dict(filter_cfg=dict(filter_empty_gt=True, min_size=32)))
optim_wrapper = dict(optimizer=dict(lr=lr))
