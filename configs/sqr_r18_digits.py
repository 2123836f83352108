"""Sparse R-CNN on the quick start's digits, trained with selective query recollection.

    python tools/make_digits.py && python tools/train.py configs/sqr_r18_digits.py
"""
_base_ = './sparse_rcnn_r18_digits.py'

model = dict(roi_head=dict(type='RecollectingRoIHead', recollect=2))
