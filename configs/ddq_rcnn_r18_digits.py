"""DDQ R-CNN on the digits of the quick start, with the same backbone and schedule: 2 stages, 30 distinct queries.

    sparse-rcnn digits && sparse-rcnn train ddq_rcnn_r18_digits
"""
_base_ = './sparse_rcnn_r18_digits.py'

num_classes = 10
channels = 96
strides = [8, 16, 32]

criterion = _base_.model.criterion
match_costs = criterion.assigner.match_costs

model = dict(
    rpn_head=dict(
        _delete_=True, type='DenseDistinctProposals', num_classes=num_classes, in_channels=channels, strides=strides,
        start_level=0, num_proposals=30, norm_groups=32),
    roi_head=dict(num_stages=2),
    criterion=dict(
        _delete_=True,
        type='Criteria',
        parts=dict(
            ddq=dict(
                type='DenseCriterion', predictions='main',
                assigner=dict(type='RepeatedHungarianAssigner', matches=1, match_costs=match_costs),
                loss_cls=dict(type='QualityFocalLoss'), loss_iou=dict(type='GIoULoss', loss_weight=2.0)),
            ddq_aux=dict(
                type='DenseCriterion', predictions='auxiliary',
                assigner=dict(type='RepeatedHungarianAssigner', matches=8, match_costs=match_costs),
                loss_cls=dict(type='QualityFocalLoss'), loss_iou=dict(type='GIoULoss', loss_weight=2.0)),
            stages=dict(**criterion, normalizer='num_matched'))))
