_base_ = [
    './_base_/models/sparse_rcnn_r50.py',
    './_base_/datasets/digits_detection.py',
    './_base_/schedules/schedule_3x.py',
    './_base_/default_runtime.py',
]

# 4 images per iteration, 20 proposals and 3 stages: trains in minutes on two cores
max_iters = 1_500
lr = 5e-4
channels = 96

model = dict(
    backbone=dict(
        depth=18, base_channels=32, out_indices=(1, 2, 3), frozen_stages=-1, norm_eval=False,
        norm_cfg=dict(type='NaiveSyncBatchNorm', requires_grad=True), init_cfg=None),
    neck=dict(in_channels=[64, 128, 256], out_channels=channels, num_outs=3),
    # From the whole image, as in the paper, boxes take much of such a short training to get to the digits.
    rpn_head=dict(num_proposals=20, proposal_feature_channel=channels, grid=(4, 5)),
    roi_head=dict(
        num_stages=3,
        bbox_head=dict(num_classes=10, in_channels=channels, num_heads=4, feedforward_channels=384,
                       dynamic_conv=dict(feat_channels=32)),
        roi_extractor=dict(strides=[8, 16, 32])))

train_cfg = dict(max_iters=max_iters, val_interval=500)
optim_wrapper = dict(optimizer=dict(lr=lr))
# up to the optimizer's learning rate and down again, over all iterations
param_scheduler = [dict(type='OneCycleLR', pct_start=0.2, by_epoch=False)]
auto_scale_lr = dict(base_batch_size=4)
randomness = dict(seed=0)
default_hooks = dict(checkpoint=dict(interval=500))
