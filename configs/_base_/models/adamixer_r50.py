"""AdaMixer (arXiv 2203.16507) with the settings of MCG-NJU/AdaMixer's configs."""
_base_ = './sparse_rcnn_r50.py'

# Often changed
num_classes = 80
num_proposals = 100
# Sometimes changed
num_stages = 6
channels = 256
groups = 4  # groups of channels, each with its own points
in_points = 32  # sampled points per group
out_points = 128  # points per group after mixing
strides = [4, 8, 16, 32]

model = dict(
    backbone=dict(norm_cfg=dict(requires_grad=True)),
    neck=dict(
        _delete_=True,
        type='ChannelMapper',
        in_channels=[256, 512, 1024, 2048],
        out_channels=channels,
        kernel_size=1,
        act_cfg=None),
    rpn_head=dict(type='WholeImageProposals', num_proposals=num_proposals, proposal_feature_channel=channels),
    roi_head=dict(
        num_stages=num_stages,
        bbox_head=dict(
            _delete_=True,
            type='AdaMixerStage',
            num_classes=num_classes,
            in_channels=channels,
            num_heads=8,
            feedforward_channels=2048,
            num_cls_fcs=1,
            num_reg_fcs=1,
            groups=groups,
            in_points=in_points,
            out_points=out_points),
        roi_extractor=dict(_delete_=True, type='PointSampler', strides=strides, groups=groups)),
    criterion=dict(normalizer='num_matched'))
