"""DDQ R-CNN (arXiv 2303.12776) with the settings in the configs of jshilong/DDQ (R-CNN branch, de9331e)."""
_base_ = './sparse_rcnn_r50.py'

# Often changed
num_classes = 80
num_proposals = 300  # the maximum number of distinct proposals
# Sometimes changed
num_stages = 2
channels = 256
strides = [4, 8, 16, 32, 64, 128]
dense_strides = strides[1:]  # only the stages use the finest level
matches = 8  # matches per ground truth of the auxiliary dense predictions

criterion = _base_.model.criterion
match_costs = criterion.assigner.match_costs

model = dict(
    backbone=dict(norm_cfg=dict(requires_grad=True)),
    neck=dict(
        out_channels=channels,
        num_outs=len(strides),
        add_extra_convs='on_input',
        init_cfg=dict(_delete_=True, type='Xavier', layer='Conv2d', distribution='uniform')),
    rpn_head=dict(
        _delete_=True,
        type='DenseDistinctProposals',
        num_classes=num_classes,
        in_channels=channels,
        strides=dense_strides,
        start_level=1,
        num_proposals=num_proposals,
        num_candidates=1000,
        iou_threshold=0.7,
        norm_groups=32),
    roi_head=dict(num_stages=num_stages, roi_extractor=dict(strides=strides)),
    criterion=dict(
        _delete_=True,
        type='Criteria',
        parts=dict(
            ddq=dict(
                type='DenseCriterion',
                predictions='main',
                assigner=dict(type='RepeatedHungarianAssigner', matches=1, match_costs=match_costs),
                loss_cls=dict(type='QualityFocalLoss', beta=2.0),
                loss_iou=dict(type='GIoULoss', loss_weight=2.0)),
            ddq_aux=dict(
                type='DenseCriterion',
                predictions='auxiliary',
                assigner=dict(type='RepeatedHungarianAssigner', matches=matches, match_costs=match_costs),
                loss_cls=dict(type='QualityFocalLoss', beta=2.0),
                loss_iou=dict(type='GIoULoss', loss_weight=2.0)),
            stages=dict(**criterion, normalizer='num_matched'))),
    postprocessor=dict(max_per_img=num_proposals))
