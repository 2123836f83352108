"""Models and batches to measure: weights of a realistic scale, and proposals spread over the image."""
from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from mmdet.models.backbones.resnet import BasicBlock, Bottleneck
from mmdet.structures import DetDataSample, SampleList
from mmdet.structures.mask import BitmapMasks
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.structures import InstanceData
from torch import Tensor, nn

from sparse_rcnn_mm.models import DIIHead, EmbeddingRPNHead, SparseRCNN
from sparse_rcnn_mm.registry import MODELS


def build_model(cfg: Config, state: dict[str, Tensor] | None = None) -> SparseRCNN:
    """The model of a config, with the weights `state`, or with random weights that behave like trained ones."""
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('sparse_rcnn_mm'):
        model = MODELS.build({**cfg.model, 'backbone': {**cfg.model.backbone, 'init_cfg': None}})
    if state is None:
        _spread_out(model)
    else:
        model.load_state_dict(state)
    return model.eval()


@torch.no_grad()
def _spread_out(model: SparseRCNN) -> None:
    """Make random weights cost what trained ones cost.

    Without this, all proposals cover the whole image, and activations grow from block to block.
    """
    if isinstance(model.rpn_head, EmbeddingRPNHead):
        boxes = model.rpn_head.init_proposal_bboxes.weight
        size = (torch.rand(len(boxes), 2) * 3 - 3.5).exp()
        boxes.copy_(torch.cat([size / 2 + torch.rand_like(size) * (1 - size), size], dim=1))
    for stage in model.roi_head.modules():
        if isinstance(stage, DIIHead):
            stage.fc_reg.weight.mul_(0.02)
    for block in model.backbone.modules():
        if isinstance(block, Bottleneck):
            block.norm3.weight.mul_(0.2)
        elif isinstance(block, BasicBlock):
            block.norm2.weight.mul_(0.2)
    norms = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    momentum = [norm.momentum for norm in norms]
    for norm in norms:
        norm.train()
        norm.momentum = None  # makes the statistics a plain average
    model.backbone(images(2, 256, 256))
    for norm, before in zip(norms, momentum, strict=True):
        norm.eval()
        norm.momentum = before


def images(batch: int, height: int, width: int) -> Tensor:
    """Normalized images (B, 3, H, W) of blobs and noise."""
    blobs = F.interpolate(torch.randn(batch, 3, height // 16, width // 16), size=(height, width), mode='bilinear')
    return blobs + 0.3 * torch.randn(batch, 3, height, width)


def samples(batch: int, height: int, width: int, num_gts: int = 7, num_classes: int = 80) -> SampleList:
    """Data samples with `num_gts` random boxes each."""
    result = []
    for index in range(batch):
        shape = (height, width)
        sample = DetDataSample(metainfo=dict(img_id=index, img_shape=shape, ori_shape=shape, pad_shape=shape,
                                             batch_input_shape=shape, scale_factor=(1., 1.)))
        size = torch.rand(num_gts, 2) * 0.3 + 0.03
        corner = torch.rand(num_gts, 2) * (1 - size)
        boxes = torch.cat([corner, corner + size], dim=1) * torch.tensor([width, height, width, height])
        sample.gt_instances = InstanceData(bboxes=boxes, labels=torch.randint(num_classes, (num_gts,)))
        result.append(sample)
    return result


def add_masks(batch: SampleList) -> None:
    """Give every ground truth a mask: the ellipse inside its box."""
    for sample in batch:
        height, width = sample.img_shape
        y, x = np.ogrid[:height, :width]
        left, top, right, bottom = (side[:, None, None] for side in sample.gt_instances.bboxes.numpy().T)
        across, down = (2 * x - left - right) / (right - left), (2 * y - top - bottom) / (bottom - top)
        bitmaps = (across ** 2 + down ** 2 <= 1).astype(np.uint8)
        sample.gt_instances.masks = BitmapMasks(bitmaps, height, width)
