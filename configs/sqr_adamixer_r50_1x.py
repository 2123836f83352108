"""AdaMixer, R50, 100 queries, 12 epochs, trained with selective query recollection.

Source: `configs/sqr/adamixer_Qrecycle_r50_1x_coco.py` of Fangyi-Chen/SQR (1, 2, 3, 5, 8, 13 groups: `recollect=2`). Its
README publishes 44.5 AP on COCO val, against 42.7 without. Everything else is `adamixer_r50_1x.py`. Not trained here.
"""
_base_ = './adamixer_r50_1x.py'

model = dict(roi_head=dict(type='RecollectingRoIHead', recollect=2))
