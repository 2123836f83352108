"""Sparse R-CNN, R50, 1x, trained with selective query recollection.

Source: arXiv 2212.07593 (code: Fangyi-Chen/SQR), which has no Sparse R-CNN: nobody has published an AP of this model.
Everything else is `sparse_rcnn_r50_1x.py`. Any Sparse R-CNN checkpoint can be trained on with it, and what comes out
is a plain checkpoint. Not trained here.
"""
_base_ = './sparse_rcnn_r50_1x.py'

model = dict(roi_head=dict(type='RecollectingRoIHead', recollect=2))
