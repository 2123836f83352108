"""Sparse R-CNN on the digits of the quick start, trained with selective query recollection.

    sparse-rcnn digits && sparse-rcnn train sqr_r18_digits
"""
_base_ = './sparse_rcnn_r18_digits.py'

model = dict(roi_head=dict(type='RecollectingRoIHead', recollect=2))
