# Often changed
num_classes = 80
num_proposals = 100
# Sometimes changed
num_stages = 6
channels = 256
strides = [4, 8, 16, 32]
# torchvision's ResNet-50 (IMAGENET1K_V1); None trains from scratch
pretrained = dict(type='Pretrained', checkpoint='https://download.pytorch.org/models/resnet50-0676ba61.pth')

model = dict(
    type='SparseRCNN',
    data_preprocessor=dict(
        type='DetDataPreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        pad_size_divisor=32),
    backbone=dict(
        type='ResNet',
        depth=50,
        frozen_stages=1,
        norm_cfg=dict(type='BN', requires_grad=False),
        norm_eval=True,
        style='pytorch',
        init_cfg=pretrained),
    neck=dict(
        type='FPN',
        in_channels=[256, 512, 1024, 2048],
        out_channels=channels,
        num_outs=len(strides),
        init_cfg=dict(type='Caffe2Xavier', layer='Conv2d')),
    rpn_head=dict(type='EmbeddingRPNHead', num_proposals=num_proposals, proposal_feature_channel=channels),
    roi_head=dict(
        type='SparseRoIHead',
        num_stages=num_stages,
        bbox_head=dict(
            type='DIIHead',
            num_classes=num_classes,
            in_channels=channels,
            num_heads=8,
            feedforward_channels=2048,
            num_cls_fcs=1,
            num_reg_fcs=3,
            dynamic_conv=dict(type='DynamicConv', feat_channels=64)),
        roi_extractor=dict(type='RoIExtractor', strides=strides)),
    criterion=dict(
        type='SetCriterion',
        assigner=dict(
            type='HungarianAssigner',
            match_costs=[
                dict(type='FocalLossCost', weight=2.0),
                dict(type='BBoxL1Cost', weight=5.0),
                dict(type='IoUCost', iou_mode='giou', weight=2.0),
            ]),
        loss_cls=dict(type='FocalLoss', alpha=0.25, gamma=2.0, loss_weight=2.0),
        loss_bbox=dict(type='L1Loss', loss_weight=5.0),
        loss_iou=dict(type='GIoULoss', loss_weight=2.0)),
    postprocessor=dict(type='TopKDetections'))
