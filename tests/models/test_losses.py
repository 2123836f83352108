"""Losses: hand-worked numbers, weighting and reduction, and mmdet's own."""
import math

import pytest
import torch
from mmdet.models import losses as mmdet_losses
from torch import Tensor

from sparse_rcnn_mm.errors import UserError
from sparse_rcnn_mm.models import FocalLoss, GIoULoss, L1Loss

from .samples import random_boxes

OURS = {loss.__name__: loss for loss in (FocalLoss, L1Loss, GIoULoss)}


def random_pair(name: str) -> tuple[Tensor, Tensor]:
    if name == 'FocalLoss':
        return torch.randn(12, 4), torch.randint(5, (12,))
    return random_boxes(12), random_boxes(12)


def test_focal_loss_by_hand() -> None:
    """Three proposals, three classes: of class 1, of class 0, and background."""
    logits = torch.tensor([[0., 2., -1.], [1., 0., 0.], [-3., 0., 3.]])
    labels = torch.tensor([1, 0, 3])
    expected = []
    for row, label in zip(logits.tolist(), labels.tolist(), strict=True):
        probabilities = [1 / (1 + math.exp(-logit)) for logit in row]
        expected.append([-0.25 * (1 - p)**2 * math.log(p) if k == label else -0.75 * p**2 * math.log(1 - p)
                         for k, p in enumerate(probabilities)])
    torch.testing.assert_close(FocalLoss()(logits, labels, reduction_override='none'), torch.tensor(expected))
    assert expected[1][1] == pytest.approx(0.75 * 0.25 * math.log(2))
    torch.testing.assert_close(FocalLoss(loss_weight=2.)(logits, labels), 2 * torch.tensor(expected).mean())


def test_focal_loss_with_one_class() -> None:
    loss = FocalLoss(reduction='none')(torch.zeros(2, 1), torch.tensor([0, 1]))
    torch.testing.assert_close(loss, torch.tensor([[0.25], [0.75]]) * 0.25 * math.log(2))


def test_focal_loss_over_any_leading_dimensions() -> None:
    logits, labels = torch.randn(2, 3, 7, 4), torch.randint(5, (2, 3, 7))
    loss = FocalLoss(reduction='none')
    torch.testing.assert_close(loss(logits, labels), loss(logits.flatten(0, 2), labels.flatten()).view(2, 3, 7, 4))


def test_focal_loss_without_focus_is_weighted_cross_entropy() -> None:
    logits, labels = random_pair('FocalLoss')
    onehot = torch.eye(5)[labels][:, :4]
    entropy = -(onehot * logits.sigmoid().log() + (1 - onehot) * (1 - logits.sigmoid()).log())
    torch.testing.assert_close(FocalLoss(gamma=0., alpha=0.5)(logits, labels), 0.5 * entropy.mean())


@pytest.mark.parametrize('logit', [-80., 80.])
def test_focal_loss_of_certainty_has_finite_values_and_gradients(logit: float) -> None:
    logits = torch.full((2, 1), logit, requires_grad=True)
    loss = FocalLoss(reduction='none')(logits, torch.tensor([0, 1]))
    expected = torch.tensor([[0.], [0.75 * 80]]) if logit > 0 else torch.tensor([[0.25 * 80], [0.]])
    torch.testing.assert_close(loss.detach(), expected)
    loss.sum().backward()
    assert logits.grad.isfinite().all()


def test_l1_and_giou_by_hand() -> None:
    pred = torch.tensor([[0., 0., 2., 2.], [0., 0., 2., 2.]])
    target = torch.tensor([[1., 1., 3., 3.], [4., 0., 6., 2.]])
    assert L1Loss(reduction='none')(pred, target).tolist() == [[1., 1., 1., 1.], [4., 0., 4., 0.]]
    assert L1Loss(loss_weight=5.)(pred, target).item() == 5 * 12 / 8
    torch.testing.assert_close(GIoULoss(reduction='none')(pred, target), torch.tensor([1 - 1 / 7 + 2 / 9, 4 / 3]))


def test_weight_and_reduction() -> None:
    pred, target = torch.zeros(2, 4), torch.tensor([[1., 2., 3., 4.], [5., 6., 7., 8.]])
    by_element = torch.tensor([[1., 0., 0., 0.], [0., 0., 0., 2.]])
    assert L1Loss(reduction='sum')(pred, target).item() == 36
    assert L1Loss(reduction='mean')(pred, target).item() == 4.5
    assert L1Loss(reduction='mean', loss_weight=3.)(pred, target, avg_factor=2).item() == 54
    assert L1Loss()(pred, target, avg_factor=torch.tensor(4.)).item() == 9
    assert L1Loss(reduction='sum')(pred, target, weight=by_element).item() == 17
    assert L1Loss()(pred, target, weight=by_element, reduction_override='sum').item() == 17
    assert L1Loss()(pred, target, weight=torch.tensor([1., 0.]), reduction_override='none').tolist() == [
        [1., 2., 3., 4.], [0., 0., 0., 0.]]


# mmdet's L1 loss takes no weight by prediction. Its heads weigh the four numbers of a box alike.
@pytest.mark.parametrize(('name', 'weighting'), [
    ('FocalLoss', None), ('FocalLoss', 'by prediction'), ('FocalLoss', 'by element'), ('L1Loss', None),
    ('L1Loss', 'by element'), ('GIoULoss', None), ('GIoULoss', 'by prediction'), ('GIoULoss', 'by element')])
@pytest.mark.parametrize(('reduction', 'avg_factor'), [('mean', None), ('mean', 3.), ('sum', None), ('none', None)])
def test_equal_to_mmdet(name: str, weighting: str | None, reduction: str, avg_factor: float | None) -> None:
    """In this package's scope our losses take the place of mmdet's, in heads of mmdet too."""
    pred, target = random_pair(name)
    weight = torch.rand(12)
    weights = {None: None, 'by prediction': weight, 'by element': weight[:, None].repeat(1, 4)}[weighting]
    ours, theirs = (loss(reduction=reduction, loss_weight=1.5)(pred, target, weights, avg_factor)
                    for loss in (OURS[name], getattr(mmdet_losses, name)))
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize('name', OURS)
def test_gradients_equal_mmdet(name: str) -> None:
    gradients = []
    pred, target = random_pair(name)
    for loss in (OURS[name](), getattr(mmdet_losses, name)()):
        leaf = pred.clone().requires_grad_()
        loss(leaf, target).backward()
        gradients.append(leaf.grad)
    torch.testing.assert_close(*gradients)


def test_settings_that_do_not_exist() -> None:
    with pytest.raises(UserError, match="reduction must be 'none', 'sum' or 'mean', not 'max'"):
        L1Loss(reduction='max')
    with pytest.raises(UserError, match='set use_sigmoid=True'):
        FocalLoss(use_sigmoid=False)
    with pytest.raises(TypeError, match="unexpected keyword argument 'eps'"):
        L1Loss(eps=1e-6)
