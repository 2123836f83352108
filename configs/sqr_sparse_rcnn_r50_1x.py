"""Sparse R-CNN, R50, 1x, trained with selective query recollection.

Source: arXiv 2212.07593 (code: Fangyi-Chen/SQR), which does not include Sparse R-CNN: no AP has been published.
Everything else is `sparse_rcnn_r50_1x.py`. It can fine-tune any Sparse R-CNN checkpoint, and the result is a plain
checkpoint. Not trained here.
"""
_base_ = './sparse_rcnn_r50_1x.py'

model = dict(roi_head=dict(type='RecollectingRoIHead', recollect=2))
