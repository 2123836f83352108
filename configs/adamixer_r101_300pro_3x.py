"""AdaMixer, R101, 300 queries, 36 epochs with random crops.

Source: `configs/adamixer/adamixer_r101_300_query_crop_mstrain_480-800_3x_coco.py` of MCG-NJU/AdaMixer. Its README
publishes 48.0 AP on COCO val (48.1 reproduced). Not trained here.
"""
_base_ = './adamixer_r50_300pro_3x.py'

# torchvision's ResNet-101 (IMAGENET1K_V1)
model = dict(
    backbone=dict(
        depth=101,
        init_cfg=dict(type='Pretrained', checkpoint='https://download.pytorch.org/models/resnet101-63fe2227.pth')))
