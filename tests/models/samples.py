"""Random but valid inputs for the parts of the model."""
from collections.abc import Sequence

import torch
from mmdet.structures import DetDataSample
from mmengine.config import Config, ConfigDict
from mmengine.structures import InstanceData
from torch import Tensor, nn

from sparse_rcnn_mm.models.structures import GroundTruth, StageOutput
from tests.kit import ROOT

CRITERION = dict(
    type='SetCriterion',
    assigner=dict(type='HungarianAssigner', match_costs=[
        dict(type='FocalLossCost', weight=2.), dict(type='BBoxL1Cost', weight=5.), dict(type='IoUCost', weight=2.)]),
    loss_cls=dict(type='FocalLoss', loss_weight=2.),
    loss_bbox=dict(type='L1Loss', loss_weight=5.),
    loss_iou=dict(type='GIoULoss', loss_weight=2.))


def random_boxes(*shape: int, width: float = 100., height: float = 80., dtype: torch.dtype = torch.float32) -> Tensor:
    """Boxes (*shape, 4) of some area inside an image of that size."""
    corners = torch.rand(*shape, 2, 2, dtype=dtype).sort(dim=-2).values
    corners[..., 1, :] += 0.05
    return (corners / 1.05 * torch.tensor([width, height], dtype=dtype)).flatten(-2)


def random_gt(counts: Sequence[int], num_classes: int = 5, width: float = 100., height: float = 80.) -> GroundTruth:
    """Ground truths for images of unequal sizes, of which the first is the smallest; all boxes are inside that."""
    total = sum(counts)
    image = torch.tensor([i for i, count in enumerate(counts) for _ in range(count)], dtype=torch.long)
    whwh = torch.tensor([[[width * (1 + 3 * i), height * (1 + i)] * 2] for i in range(len(counts))]).float()
    return GroundTruth(random_boxes(total, width=width, height=height), torch.randint(num_classes, (total,)), image,
                       list(counts), whwh)


def random_stage(batch: int, proposals: int, num_classes: int = 5, channels: int = 8) -> StageOutput:
    """Predictions that require gradients."""
    return StageOutput(torch.randn(batch, proposals, num_classes).requires_grad_(),
                       random_boxes(batch, proposals).requires_grad_(), torch.randn(batch, proposals, channels))


def image_of(gt: GroundTruth, image: int) -> GroundTruth:
    """The ground truths of one image of a batch, as a batch of one."""
    mine = gt.image == image
    return GroundTruth(gt.boxes[mine], gt.labels[mine], torch.zeros_like(gt.image[mine]), [gt.counts[image]],
                       gt.img_whwh[image:image + 1])


def precisions_in(module: nn.Module) -> list[torch.dtype]:
    """A list that gets the precision of matrix products at each call of a module: bfloat16 means autocast is on."""
    found: list[torch.dtype] = []
    module.register_forward_pre_hook(lambda *_: found.append((torch.ones(1, 1) @ torch.ones(1, 1)).dtype))
    return found


def tiny_model() -> ConfigDict:
    """The model config of R50, made small: ResNet-18 at an eighth of its width, three levels, two stages."""
    config = Config.fromfile(ROOT / 'configs' / '_base_' / 'models' / 'sparse_rcnn_r50.py')
    config.merge_from_dict(dict(model=dict(
        backbone=dict(
            depth=18, base_channels=8, out_indices=(1, 2, 3), frozen_stages=-1, norm_eval=False,
            norm_cfg=dict(requires_grad=True), init_cfg=None),
        neck=dict(in_channels=[16, 32, 64], out_channels=16, num_outs=3),
        rpn_head=dict(num_proposals=8, proposal_feature_channel=16),
        roi_head=dict(
            num_stages=2,
            bbox_head=dict(num_classes=3, in_channels=16, num_heads=2, feedforward_channels=32,
                           dynamic_conv=dict(feat_channels=8)),
            roi_extractor=dict(strides=[8, 16, 32], finest_scale=14)))))
    return config.model


def rectangles(batch: int = 4, size: int = 64) -> dict:
    """What a data loader gives: images with two bright rectangles each, whose colour channel is their class."""
    generator = torch.Generator().manual_seed(1)
    inputs, samples = [], []
    for _ in range(batch):
        image = torch.randint(0, 60, (3, size, size), generator=generator)
        labels = torch.randperm(3, generator=generator)[:2]
        boxes = []
        for half, label in enumerate(labels.tolist()):
            x, y = torch.randint(2, 8, (2,), generator=generator).tolist()
            w, h = torch.randint(14, 22, (2,), generator=generator).tolist()
            x, y = x + half * size // 2, y + torch.randint(0, size // 2, (1,), generator=generator).item()
            image[label, y:y + h, x:x + w] = 255
            boxes.append([x, y, x + w, y + h])
        sample = DetDataSample(metainfo=dict(img_shape=(size, size), ori_shape=(size, size)))
        sample.gt_instances = InstanceData(bboxes=torch.tensor(boxes, dtype=torch.float32), labels=labels)
        inputs.append(image.byte())
        samples.append(sample)
    return dict(inputs=inputs, data_samples=samples)
