"""Sparse R-CNN, Swin-T, 300 proposals.

Source of the numbers: the Swin Transformer paper (arXiv 2103.14030, appendix A2.2), which trains Sparse R-CNN with
AdamW, a learning rate of 1e-4, a weight decay of 0.05, 16 images a step and the 3x schedule, and publishes 47.9 AP
without the number of proposals; its config is not published. Norms and position biases without decay, and a drop path
of 0.2, are those of its detection code. Not trained here.
"""
_base_ = [
    './_base_/models/sparse_rcnn_r50.py',
    './_base_/datasets/coco_detection_crop.py',
    './_base_/schedules/schedule_36e.py',
    './_base_/default_runtime.py',
]

lr = 1e-4
weight_decay = 0.05
pretrained = dict(
    type='Pretrained',
    checkpoint='https://github.com/SwinTransformer/storage/releases/download/v1.0.0/swin_tiny_patch4_window7_224.pth')

model = dict(
    backbone=dict(
        _delete_=True,
        type='SwinTransformer',
        embed_dims=96,
        depths=[2, 2, 6, 2],
        num_heads=[3, 6, 12, 24],
        window_size=7,
        drop_path_rate=0.2,
        convert_weights=True,
        out_indices=(0, 1, 2, 3),
        init_cfg=pretrained),
    neck=dict(in_channels=[96, 192, 384, 768]),
    rpn_head=dict(num_proposals=300))
train_dataloader = dict(dataset=dict(filter_cfg=dict(filter_empty_gt=True, min_size=32)))
optim_wrapper = dict(
    optimizer=dict(lr=lr, weight_decay=weight_decay),
    paramwise_cfg=dict(custom_keys={
        'absolute_pos_embed': dict(decay_mult=0.),
        'relative_position_bias_table': dict(decay_mult=0.),
        'norm': dict(decay_mult=0.),
    }))
