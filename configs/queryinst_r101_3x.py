"""QueryInst, R101, 100 queries, 36 epochs.

Source: `configs/queryinst/queryinst_r101_fpn_ms-480-800-3x_coco.py` of mmdet, which publishes 46.4 box AP and 41.0 mask
AP on COCO val. Not trained here.
"""
_base_ = './queryinst_r50_3x.py'

# torchvision's ResNet-101 (IMAGENET1K_V1)
model = dict(
    backbone=dict(
        depth=101,
        init_cfg=dict(type='Pretrained', checkpoint='https://download.pytorch.org/models/resnet101-63fe2227.pth')))
