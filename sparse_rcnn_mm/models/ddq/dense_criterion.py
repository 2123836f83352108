"""The training loss of dense predictions (section 3 of the paper)."""
from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmengine.dist import all_reduce
from torch import Tensor, nn

from sparse_rcnn_mm.errors import UserError
from sparse_rcnn_mm.registry import MODELS, TASK_UTILS, Part, build

from ..box_ops import overlaps
from ..structures import GroundTruth, StageOutput
from .structures import DensePredictions, DistinctProposals


@MODELS.register_module()
class QualityFocalLoss(nn.Module):
    """|target - p|^beta times binary cross entropy, of probabilities against targets from 0 to 1 (arXiv 2006.04388).

    Args:
        beta: the power.
        loss_weight: factor on the result.
    """

    def __init__(self, *, beta: float = 2., loss_weight: float = 1.) -> None:
        super().__init__()
        self.beta, self.loss_weight = beta, loss_weight

    def forward(self, probability: Tensor, target: Tensor) -> Tensor:
        """Element by element."""
        entropy = F.binary_cross_entropy(probability, target, reduction='none')
        return self.loss_weight * (target - probability).abs()**self.beta * entropy


@MODELS.register_module()
class DenseCriterion(nn.Module):
    """Match candidates to ground truths, then train the score of a match towards its quality, and its box.

    Images without ground truth add nothing to the losses, as in the original code.

    Args: each part is a config, or built already.
        predictions: 'main' or 'auxiliary', of the proposals.
        assigner: `assigner(predictions, gt) -> matched_gt`; see `RepeatedHungarianAssigner`.
        loss_cls: of scores against qualities.
        loss_iou: of boxes, weighted by quality.
        score_power, iou_power: of a match's score and overlap in its quality.
    """

    def __init__(self, *, predictions: str = 'main', assigner: Part, loss_cls: Part, loss_iou: Part,
                 score_power: float = 1., iou_power: float = 6.) -> None:
        super().__init__()
        if predictions not in ('main', 'auxiliary'):
            raise UserError(f"predictions of DenseCriterion must be 'main' or 'auxiliary', not {predictions!r}")
        self.predictions = predictions
        self.assigner = build(TASK_UTILS, assigner)
        self.loss_cls = build(MODELS, loss_cls)
        self.loss_iou = build(MODELS, loss_iou)
        self.score_power, self.iou_power = score_power, iou_power

    def forward(self, stages: Sequence[StageOutput], gt: GroundTruth,
                proposals: DistinctProposals) -> dict[str, Tensor]:
        """Return `loss_cls` and `loss_iou`, divided by the sum of qualities, and the mean number of `candidates`.

        Empty for auxiliary predictions outside training, where they are not computed.
        """
        dense: DensePredictions | None = getattr(proposals, self.predictions)
        if dense is None:
            return {}
        with torch.autocast(dense.scores.device.type, enabled=False):
            losses = self.losses(dense, self.assigner(dense, gt), gt)
        return {**losses, 'candidates': dense.kept.sum(1).float().mean()}

    def losses(self, dense: DensePredictions, matched_gt: Tensor, gt: GroundTruth) -> dict[str, Tensor]:
        """The losses for given matches (B, M), both ()."""
        start = matched_gt.new_tensor([0, *gt.counts[:-1]]).cumsum(0)[:, None]
        image, row = (matched_gt >= 0).nonzero(as_tuple=True)
        target = (matched_gt + start)[image, row]
        boxes, labels = dense.boxes[image, row], gt.labels[target]
        gt_boxes = gt.boxes[target].to(boxes.dtype)
        quality = self.quality(dense.scores[image, row, labels].detach(), overlaps(boxes.detach(), gt_boxes)[0], target,
                               len(gt.labels))
        count = quality.sum()
        all_reduce(count, op='mean')
        count = count.clamp(min=1)
        targets = torch.zeros_like(dense.scores).index_put_((image, row, labels), quality)
        teaches = dense.kept & (matched_gt.new_tensor(gt.counts) > 0)[:, None]
        loss_cls = (self.loss_cls(dense.scores, targets).sum(-1) * teaches).sum() / count
        loss_iou = (self.loss_iou(boxes, gt_boxes, reduction_override='none') * quality).sum() / count
        return {'loss_cls': loss_cls, 'loss_iou': loss_iou}

    def quality(self, scores: Tensor, iou: Tensor, target: Tensor, num_gts: int) -> Tensor:
        """Of matches (T,) with these scores and overlaps: the best of a ground truth gets its best overlap."""
        raw = scores**self.score_power * iou**self.iou_power
        best_raw, best_iou = (values.new_zeros(num_gts).scatter_reduce(0, target, values, 'amax')[target]
                              for values in (raw, iou))
        return raw / (best_raw + 1e-7) * best_iou
