"""DDQ R-CNN, R50, one class and 500 distinct queries, for crowds.

    sparse-rcnn train ddq_rcnn_r50_crowdhuman --data FOLDER

Source: the paper, which publishes 93.5 AP, 40.4 mMR and 98.6 recall on CrowdHuman. Its repository has no config for it:
500 queries are our choice, and everything else is `ddq_rcnn_r50_3x.py`. Not trained here.
"""
_base_ = './ddq_rcnn_r50_3x.py'

num_classes = 1
num_proposals = 500

model = dict(
    rpn_head=dict(num_classes=num_classes, num_proposals=num_proposals),
    roi_head=dict(bbox_head=dict(num_classes=num_classes)),
    postprocessor=dict(max_per_img=num_proposals))
