"""Sizes and numbers at the edges: whatever a config or a batch holds, losses, gradients and boxes stay finite."""
from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sparse_rcnn_mm.models import HungarianAssigner, SparseRCNN
from sparse_rcnn_mm.models.box_ops import MAX_COORDINATE
from sparse_rcnn_mm.models.structures import GroundTruth
from sparse_rcnn_mm.registry import MODELS

from .samples import CRITERION, random_stage, tiny_model

SIZES = st.sampled_from([(1, 1), (1, 200), (33, 7), (64, 96), (64, 4000), (200, 1)])


def model_of(num_classes: int, num_proposals: int) -> SparseRCNN:
    config = tiny_model()
    config.roi_head.bbox_head.num_classes = num_classes
    config.rpn_head.num_proposals = num_proposals
    config.backbone.norm_eval = True  # one cell of the coarsest level has no statistics
    return MODELS.build(config)


def objects(counts: list[int], sizes: list[tuple[int, int]], num_classes: int) -> GroundTruth:
    """Boxes inside images of the sizes (height, width); some are thin."""
    whwh = torch.tensor([[[w, h, w, h]] for h, w in sizes], dtype=torch.float32)
    image = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    corners = torch.rand(len(image), 2, 2).sort(dim=1).values.flatten(1)
    return GroundTruth(corners * whwh[image, 0], torch.randint(num_classes, (len(image),)), image, counts, whwh)


@settings(max_examples=12, deadline=None, derandomize=True)
@given(st.sampled_from([1, 2, 80, 1203]), st.sampled_from([1, 3, 100, 1000]),
       st.lists(st.tuples(SIZES, st.sampled_from([0, 1, 7, 1000])), min_size=1, max_size=2))
def test_every_size(num_classes: int, num_proposals: int, images: list[tuple[tuple[int, int], int]]) -> None:
    model = model_of(num_classes, num_proposals).train()
    sizes, counts = [size for size, _ in images], [count for _, count in images]
    height, width = (-(-max(side) // 32) * 32 for side in zip(*sizes, strict=True))
    gt = objects(counts, sizes, num_classes)
    batch = torch.randn(len(images), 3, height, width)
    proposals, stages = model.refine(batch, gt.img_whwh)
    losses = model.criterion(stages, gt, proposals)
    sum(losses.values()).backward()
    assert all(loss.isfinite() for loss in losses.values())
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)
    with torch.no_grad():
        found = model.eval().detect(batch, gt.img_whwh, gt.img_whwh)
    assert found.boxes.isfinite().all() and (found.boxes >= 0).all() and (found.boxes <= gt.img_whwh).all()
    assert ((found.scores >= 0) & (found.scores <= 1)).all() and (found.labels < num_classes).all()


@pytest.mark.parametrize('strength', [1e2, 1e4, 1e8])
def test_boxes_that_run_away_stay_finite(strength: float) -> None:
    """Hostile deltas let a box grow 6,250-fold in every stage."""
    model = model_of(3, 8)
    model.roi_head.order = [0, 1] * 4
    for stage in model.roi_head.bbox_head:
        torch.nn.init.constant_(stage.fc_reg.bias, strength)
    gt = objects([2, 3], [(64, 96), (50, 40)], 3)
    proposals, stages = model.refine(torch.randn(2, 3, 64, 96), gt.img_whwh)
    assert stages[-1].boxes.abs().max() == MAX_COORDINATE
    losses = model.criterion(stages, gt, proposals)
    sum(losses.values()).backward()
    assert all(loss.isfinite() for loss in losses.values())
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


def test_images_of_unequal_size_are_matched_in_their_own_units() -> None:
    """In the units of the image a pixel is worth more in a small one: the match flips where another image's are taken.

    One object at 0 in an image of 10 x 1000 pixels: 6 pixels to the right are 0.6 of its width, 60 pixels down 0.06 of
    its height. In units of the first image, of 1000 x 10, it is the other way around.
    """
    gt = GroundTruth(torch.tensor([[0., 0., 2., 20.]]), torch.tensor([0]), torch.tensor([1]), [0, 1],
                     torch.tensor([[[1000., 10., 1000., 10.]], [[10., 1000., 10., 1000.]]]))
    boxes = torch.tensor([[6., 0., 8., 20.], [0., 60., 2., 80.]]).expand(1, 2, 2, 4)
    assigner = HungarianAssigner([dict(type='BBoxL1Cost', weight=1.)])
    assert assigner(torch.zeros(1, 2, 2, 1), boxes, gt).tolist() == [[[-1, -1], [-1, 0]]]


def test_the_criterion_computes_in_full_precision_under_autocast() -> None:
    """Also the matrix products that costs or losses of another kind may hold, which autocast would reduce."""
    seen: list[torch.dtype] = []

    class Product(torch.nn.Module):

        def forward(self, pred: Tensor, target: Tensor, reduction_override: str) -> Tensor:
            seen.append((pred @ pred.mT).dtype)
            return (pred - target).abs()

    criterion = MODELS.build({**CRITERION, 'loss_bbox': Product()})
    with torch.autocast('cpu', torch.bfloat16):
        criterion([random_stage(2, 6)], objects([2, 1], [(80, 100)] * 2, 5), None)
    assert seen == [torch.float32]
