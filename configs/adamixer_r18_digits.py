"""AdaMixer on the digits of the quick start, with the same backbone, schedule and numbers of stages and queries.

    sparse-rcnn digits && sparse-rcnn train adamixer_r18_digits

The learning rate is that of the quick start: AdaMixer's own is for long schedules.
"""
_base_ = './sparse_rcnn_r18_digits.py'

channels = 96

model = dict(
    neck=dict(_delete_=True, type='ChannelMapper', in_channels=[64, 128, 256], out_channels=channels, kernel_size=1,
              act_cfg=None),
    rpn_head=dict(_delete_=True, type='WholeImageProposals', num_proposals=20, proposal_feature_channel=channels),
    roi_head=dict(
        bbox_head=dict(
            _delete_=True, type='AdaMixerStage', num_classes=10, in_channels=channels, num_heads=4,
            feedforward_channels=384, groups=4, in_points=32, out_points=64),
        roi_extractor=dict(_delete_=True, type='PointSampler', strides=[8, 16, 32], groups=4)),
    criterion=dict(normalizer='num_matched'))
