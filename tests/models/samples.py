"""Random but valid inputs for the parts of the model."""
from collections.abc import Sequence

import torch
from torch import Tensor

from sparse_rcnn_mm.models.structures import GroundTruth, StageOutput

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
    """Ground truths for images that are all of one size."""
    total = sum(counts)
    image = torch.tensor([i for i, count in enumerate(counts) for _ in range(count)], dtype=torch.long)
    whwh = torch.tensor([width, height, width, height]).expand(len(counts), 1, 4)
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
