"""QueryInst, R101, 300 queries, 36 epochs with random crops.

Source: `configs/queryinst/queryinst_r101_fpn_300-proposals_crop-ms-480-800-3x_coco.py` of mmdet, which publishes 49.0
box AP and 42.9 mask AP on COCO val. Not trained here.
"""
_base_ = './queryinst_r50_300pro_3x.py'

# torchvision's ResNet-101 (IMAGENET1K_V1)
model = dict(
    backbone=dict(
        depth=101,
        init_cfg=dict(type='Pretrained', checkpoint='https://download.pytorch.org/models/resnet101-63fe2227.pth')))
