"""The three losses. They take mmdet's arguments, because they replace mmdet's losses of the same names."""
from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from sparse_rcnn_mm.errors import UserError
from sparse_rcnn_mm.registry import MODELS

from .box_ops import overlaps


class _WeightedLoss(nn.Module):
    """Weighting and reduction of an element-wise loss.

    Args:
        reduction: 'none', 'sum' or 'mean'.
        loss_weight: factor on the result.
    """

    def __init__(self, reduction: str = 'mean', loss_weight: float = 1.) -> None:
        super().__init__()
        if reduction not in ('none', 'sum', 'mean'):
            raise UserError(f"reduction must be 'none', 'sum' or 'mean', not {reduction!r}")
        self.reduction = reduction
        self.loss_weight = loss_weight

    def forward(self, pred: Tensor, target: Tensor, weight: Tensor | None = None,
                avg_factor: float | Tensor | None = None, reduction_override: str | None = None) -> Tensor:
        """Compute the loss of `pred` with respect to `target`.

        Args:
            weight: one factor per element of the loss, per prediction, or per coordinate of a predicted box.
            avg_factor: with 'mean', the sum is divided by this instead of by the number of elements.
            reduction_override: replaces `reduction`.
        """
        loss = self.elementwise(pred, target)
        if weight is not None:
            weight = weight.mean(-1) if weight.dim() > loss.dim() else weight
            loss = loss * (weight if weight.dim() == loss.dim() else weight.unsqueeze(-1))
        reduction = reduction_override or self.reduction
        if reduction != 'none':
            loss = loss.sum() / (1 if reduction == 'sum' else loss.numel() if avg_factor is None else avg_factor)
        return self.loss_weight * loss

    def elementwise(self, pred: Tensor, target: Tensor) -> Tensor:
        raise NotImplementedError


@MODELS.register_module()
class FocalLoss(_WeightedLoss):
    """Sigmoid focal loss (arXiv 1708.02002): logits (..., K) against labels (...) long, where K is background."""

    def __init__(self, use_sigmoid: bool = True, gamma: float = 2., alpha: float = 0.25, reduction: str = 'mean',
                 loss_weight: float = 1.) -> None:
        super().__init__(reduction, loss_weight)
        if not use_sigmoid:
            raise UserError('only the sigmoid focal loss is supported: set use_sigmoid=True')
        self.gamma, self.alpha = gamma, alpha

    def elementwise(self, pred: Tensor, target: Tensor) -> Tensor:
        """The loss of every logit, (..., K)."""
        positive = F.one_hot(target, pred.shape[-1] + 1)[..., :-1].to(pred.dtype)
        p = pred.sigmoid()
        p_target = p * positive + (1 - p) * (1 - positive)
        alpha = self.alpha * positive + (1 - self.alpha) * (1 - positive)
        return alpha * (1 - p_target)**self.gamma * F.binary_cross_entropy_with_logits(pred, positive, reduction='none')


@MODELS.register_module()
class L1Loss(_WeightedLoss):
    """The absolute difference of each element."""

    def elementwise(self, pred: Tensor, target: Tensor) -> Tensor:
        return (pred - target).abs()


@MODELS.register_module()
class GIoULoss(_WeightedLoss):
    """1 - generalized IoU (arXiv 1902.09630) of xyxy boxes (..., 4), one value per box."""

    def elementwise(self, pred: Tensor, target: Tensor) -> Tensor:
        return 1 - overlaps(pred, target)[1]
