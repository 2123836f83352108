"""DDQ R-CNN, R50, one class and 500 distinct queries, for crowds, with CrowdHuman's metric.

    sparse-rcnn train ddq_rcnn_r50_crowdhuman --data FOLDER    # with the odgt files

or without --data after `sparse-rcnn crowd convert`; see docs/crowdhuman.md. Source: the paper, which publishes 93.5 AP,
40.4 mMR and 98.6 recall on CrowdHuman. Its repository has no config for it: 500 queries are our choice, and everything
else is `ddq_rcnn_r50_3x.py`. Not trained here.
"""
_base_ = './ddq_rcnn_r50_3x.py'

num_classes = 1
num_proposals = 500
data_root = 'data/crowdhuman/'
classes = ('person',)

model = dict(
    rpn_head=dict(num_classes=num_classes, num_proposals=num_proposals),
    roi_head=dict(bbox_head=dict(num_classes=num_classes)),
    postprocessor=dict(max_per_img=num_proposals))
train_dataloader = dict(dataset=dict(
    data_root=data_root,
    ann_file='annotations/train.json',
    data_prefix=dict(img='CrowdHuman_train/'),
    metainfo=dict(classes=classes)))
val_dataloader = dict(dataset=dict(
    data_root=data_root,
    ann_file='annotations/val.json',
    data_prefix=dict(img='CrowdHuman_val/'),
    metainfo=dict(classes=classes)))
test_dataloader = val_dataloader
val_evaluator = dict(_delete_=True, type='CrowdHumanMetric', ann_file=data_root + 'annotations/val.json')
test_evaluator = val_evaluator
