_base_ = './sparse_rcnn_r50_3x.py'

# torchvision's ResNet-101 (IMAGENET1K_V1)
model = dict(
    backbone=dict(
        depth=101,
        init_cfg=dict(type='Pretrained', checkpoint='https://download.pytorch.org/models/resnet101-63fe2227.pth')))
