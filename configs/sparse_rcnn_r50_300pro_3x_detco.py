"""Sparse R-CNN, R50 pretrained by DetCo, 300 proposals: batch norm over all GPUs, and nothing frozen.

Source of the numbers: `sparsercnn.res50.300pro.3x.detco.yaml` of PeizeSun/SparseR-CNN, whose README publishes 46.5 AP.
Put DetCo's weights into `data/detco_AA.pth` first: `sparse-rcnn convert detco_AA.pkl data/detco_AA.pth`. The authors
also average the statistics of the batch norms anew before each test (TEST.PRECISE_BN), which is left out here. Not
trained here.
"""
_base_ = './sparse_rcnn_r50_300pro_3x.py'

pretrained = dict(type='Pretrained', checkpoint='data/detco_AA.pth')

model = dict(backbone=dict(
    frozen_stages=-1,
    norm_cfg=dict(type='SyncBN', requires_grad=True),
    norm_eval=False,
    init_cfg=dict(_delete_=True, **pretrained)))
