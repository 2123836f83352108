"""The training loss with masks: the Sparse R-CNN losses, and a dice loss on the masks of matched proposals."""
from __future__ import annotations

from collections.abc import Sequence

import torch
from mmengine.dist import all_reduce
from torch import Tensor, nn

from sparse_rcnn_mm.ops import at_least_float32
from sparse_rcnn_mm.registry import MODELS, Part, build

from ..set_criterion import SetCriterion
from ..structures import GroundTruth, Proposals
from .mask_targets import mask_targets
from .structures import MaskedGroundTruth, MaskedStageOutput


@MODELS.register_module()
class DiceLoss(nn.Module):
    """The dice loss of V-Net (arXiv 1606.04797, with squares in the denominator): one value per mask.

    Args:
        loss_weight: factor applied to the loss.
        eps: added to both sums of squares.
    """

    def __init__(self, loss_weight: float = 1., eps: float = 1e-5) -> None:
        super().__init__()
        self.loss_weight, self.eps = loss_weight, eps

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Compute the losses (M,) from logits and targets (M, h, w). Targets are between 0 and 1."""
        p, target = logits.sigmoid().flatten(1), target.flatten(1)
        squares = p.square().sum(1) + self.eps + target.square().sum(1) + self.eps
        return self.loss_weight * (1 - 2 * (p * target).sum(1) / squares)


@MODELS.register_module()
class MaskCriterion(SetCriterion):
    """`SetCriterion` with an additional mask loss.

    Args:
        assigner, loss_cls, loss_bbox, loss_iou, normalizer: as in `SetCriterion`.
        loss_mask: a config or module, `loss_mask(logits, target) -> (M,)`. Its values are summed over the matched
            proposals of a stage and divided by the number of matches, which is averaged over processes and at least 1.
            With several groups of queries, this is done for each group, and the groups are added.
    """

    def __init__(self, *, assigner: Part, loss_cls: Part, loss_bbox: Part, loss_iou: Part, loss_mask: Part,
                 normalizer: str = 'num_matched') -> None:
        super().__init__(assigner=assigner, loss_cls=loss_cls, loss_bbox=loss_bbox, loss_iou=loss_iou,
                         normalizer=normalizer)
        self.loss_mask = build(MODELS, loss_mask)

    def forward(self, stages: Sequence[MaskedStageOutput], gt: MaskedGroundTruth,  # type: ignore[override]
                proposals: Proposals) -> dict[str, Tensor]:
        """Compute the losses of `SetCriterion`, and `s{k}.loss_mask` for every stage k."""
        plain = GroundTruth(gt.boxes, gt.labels, gt.image, gt.counts, gt.img_whwh)
        losses = super().forward(stages, plain, proposals)  # type: ignore[arg-type]
        groups = [stage.logits.shape[0] // gt.img_whwh.shape[0] for stage in stages]
        masks = self.mask_losses(stages, self._matched_gt.split(groups), gt)
        del self._matched_gt
        losses |= {f's{stage}.loss_mask': loss for stage, loss in enumerate(masks)}
        return dict(sorted(losses.items(), key=lambda item: int(item[0][1:].partition('.')[0])))  # by stage

    def losses(self, logits: Tensor, boxes: Tensor, matched_gt: Tensor, gt: GroundTruth) -> dict[str, Tensor]:
        """Compute the losses of `SetCriterion`. The matches are kept for `forward`."""
        self._matched_gt = matched_gt
        return super().losses(logits, boxes, matched_gt, gt)

    def mask_losses(self, stages: Sequence[MaskedStageOutput], matched_gt: Sequence[Tensor],
                    gt: MaskedGroundTruth) -> list[Tensor]:
        """Compute the weighted mask loss of each stage, for matches (G, B, N)."""
        counts = torch.cat([(matched >= 0).flatten(1).sum(1) for matched in matched_gt]).float()  # by stage and group
        all_reduce(counts, op='mean')
        rows = [(matched.flatten() >= 0).nonzero().squeeze(1) for matched in matched_gt]
        # (G*B*N,) each: indices into the ground truths of the image, and of the batch.
        which = [matched.flatten()[row] for matched, row in zip(matched_gt, rows, strict=True)]
        images = [row // stage.boxes.shape[1] % len(gt.counts) for stage, row in zip(stages, rows, strict=True)]
        start = torch.tensor([0, *gt.counts[:-1]], device=gt.labels.device).cumsum(0)
        logits = [at_least_float32(stage.masks(row, gt.labels[start[image] + index]))
                  for stage, row, image, index in zip(stages, rows, images, which, strict=True)]
        boxes = [stage.boxes.flatten(0, 1)[row] for stage, row in zip(stages, rows, strict=True)]
        targets = mask_targets(torch.cat(boxes), torch.cat(images), torch.cat(which), logits[0].shape[-1], gt)
        values = [self.loss_mask(masks, target) for masks, target in zip(
            logits, targets.to(logits[0]).split([len(row) for row in rows]), strict=True)]
        groups = [row // matched[0].numel() for matched, row in zip(matched_gt, rows, strict=True)]
        divisors = counts.clamp(min=1).split([len(matched) for matched in matched_gt])
        return [sum(value[group == index].sum() / count for index, count in enumerate(divisor))
                for value, group, divisor in zip(values, groups, divisors, strict=True)]
