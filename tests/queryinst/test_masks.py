"""Targets and pasting by hand, and what holds for any mask head."""
from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from sparse_rcnn_mm.models.queryinst import DiceLoss, DynamicMaskHead
from sparse_rcnn_mm.models.queryinst.mask_targets import crop_and_resize
from sparse_rcnn_mm.models.queryinst.pasting import paste_masks
from sparse_rcnn_mm.registry import MODELS
from tests.models.samples import CRITERION, precisions_in

from .test_parity import batch_of, build


def rectangle(height: int, width: int, left: int, top: int, right: int, bottom: int) -> np.ndarray:
    bitmap = np.zeros((1, height, width), np.uint8)
    bitmap[0, top:bottom, left:right] = 1
    return bitmap


def crop(bitmap: np.ndarray, box: list[float], size: int = 4) -> Tensor:
    boxes = torch.tensor([box], dtype=torch.float32)
    return crop_and_resize(bitmap, boxes, torch.tensor([0]), size, bitmap.shape[1:])[0]


def test_the_target_of_a_box_is_the_part_of_the_mask_in_it() -> None:
    bitmap = rectangle(20, 30, 8, 4, 16, 12)
    # Bins of 2 x 2 pixels: the rectangle fills the left half.
    assert (crop(bitmap, [12, 4, 20, 12]) == torch.tensor([1., 1, 0, 0])).all()
    # Bins of 1 x 2 pixels: the upper quarter is above the rectangle.
    assert (crop(bitmap, [8, 2, 12, 10]) == torch.tensor([0., 1, 1, 1])[:, None]).all()


def test_bins_that_are_half_covered_are_one_half_exactly() -> None:
    bitmap = rectangle(40, 40, 0, 0, 9, 40)
    # Bins of 6 pixels in 6 samples: the second begins at 6 and is covered up to 9.
    assert crop(bitmap, [0, 0, 24, 24])[:, 1].tolist() == [0.5] * 4


@pytest.mark.parametrize('box', [[100., 5, 130, 9], [-50., -60, -40, -20], [12., 5, 12, 9]])
def test_a_box_outside_or_without_area_has_an_empty_target(box: list[float]) -> None:
    assert (crop(rectangle(20, 30, 20, 8, 25, 12), box) == 0).all()


def test_what_fills_its_box_is_pasted_as_the_box() -> None:
    bitmaps = paste_masks(torch.ones(2, 28, 28), torch.tensor([[3., 2, 9, 6], [-4., 5, 4, 40]]), 20, 30)
    wanted = np.concatenate([rectangle(20, 30, 3, 2, 9, 6), rectangle(20, 30, 0, 5, 4, 20)])
    # Half a cell at the border of a box is nearer to 0 than to 1, but these cells are smaller than half a pixel.
    assert (bitmaps.numpy() == wanted).all()


def test_nothing_is_pasted_of_a_box_outside() -> None:
    boxes = torch.tensor([[40., 2, 60, 6], [-30., -9, -20, -1]])
    assert not paste_masks(torch.ones(2, 28, 28), boxes, 20, 30).any()
    assert paste_masks(torch.ones(0, 28, 28), boxes[:0], 20, 30).shape == (0, 20, 30)


def test_pasting_and_cropping_give_the_mask_back() -> None:
    y, x = np.mgrid[:28, :28] + 0.5
    disc = torch.from_numpy(((x - 14)**2 + (y - 14)**2 < 150).astype(np.float32))
    box = torch.tensor([[7., 11, 91, 67]])
    bitmap = paste_masks(disc[None], box, 80, 100).numpy().astype(np.uint8)
    again = crop_and_resize(bitmap, box, torch.tensor([0]), 28, (80, 100))[0] >= 0.5
    assert (again == disc.bool()).float().mean() > 0.98


def test_dice_loss_by_hand() -> None:
    sure = torch.full((1, 2, 2), 40.)
    target = torch.tensor([[[1., 1], [0, 0]]])
    loss = DiceLoss(loss_weight=8., eps=0.)
    assert loss(sure, sure.sigmoid()).item() == pytest.approx(0, abs=1e-6)
    assert loss(-sure, target).item() == pytest.approx(8)
    assert loss(sure, target).item() == pytest.approx(8 * (1 - 2 * 2 / (4 + 2)))
    assert DiceLoss(eps=1.)(sure, target).item() == pytest.approx(1 - 2 * 2 / (4 + 1 + 2 + 1))


def test_losses_are_divided_by_matches_unless_said_otherwise() -> None:
    config = dict(CRITERION, type='MaskCriterion', loss_mask=dict(type='DiceLoss'))
    assert [MODELS.build(dict(config, **more)).normalizer for more in ({}, {'normalizer': 'num_gts'})] == [
        'num_matched', 'num_gts']


def test_no_masks_are_in_the_graph_of_every_parameter() -> None:
    head = DynamicMaskHead(num_classes=3, in_channels=8, feat_channels=4)
    masks = head(torch.zeros(0, 196, 8), torch.zeros(0, 8), torch.zeros(0, dtype=torch.long))
    masks.sum().backward()
    assert masks.shape == (0, 28, 28)
    assert all((parameter.grad == 0).all() for parameter in head.parameters())


def test_the_mask_of_a_row_does_not_depend_on_who_else_is_asked_for() -> None:
    model = build('two', torch.float64).eval()
    with torch.no_grad():
        last = model.run_stages(*batch_of('two', model, torch.float64))[1][-1]
        rows, labels = torch.tensor([3, 20, 7]), torch.tensor([1, 3, 0])
        together = last.masks(rows, labels)
        alone = torch.cat([last.masks(row[None], label[None]) for row, label in zip(rows, labels, strict=True)])
    torch.testing.assert_close(together, alone)


def test_activation_checkpointing_changes_nothing() -> None:
    gradients = []
    for with_cp in (False, True):
        model = build('two', torch.float64).train()
        model.roi_head.with_cp = with_cp
        sum(model.loss(*batch_of('two', model, torch.float64)).values()).backward()
        gradients.append({name: parameter.grad for name, parameter in model.named_parameters()})
    torch.testing.assert_close(*gradients)


def test_autocast_is_off_in_the_losses() -> None:
    model = build('two', torch.float32).train()
    found = precisions_in(model.criterion.loss_bbox)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        model.loss(*batch_of('two', model, torch.float32))
    assert found == [torch.float32]


def test_images_without_any_object_give_finite_losses() -> None:
    model = build('empty', torch.float32).train()
    inputs, samples = batch_of('empty', model, torch.float32)
    losses = model.loss(inputs[1:], samples[1:])
    assert all(losses[f's{stage}.loss_mask'] == 0 for stage in range(3))
    sum(losses.values()).backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())
