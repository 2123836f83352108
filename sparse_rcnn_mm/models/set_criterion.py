"""Matches every stage with the ground truth, then computes its three losses (section 3.4 of the paper)."""
from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from mmengine.dist import all_reduce
from torch import Tensor, nn

from sparse_rcnn_mm.errors import UserError
from sparse_rcnn_mm.ops import at_least_float32
from sparse_rcnn_mm.registry import MODELS, TASK_UTILS, Part, build

from .structures import GroundTruth, Proposals, StageOutput

# The divisor of a stage's summed losses, () or (S,), computed from matched_gt (S, B, N) and the ground truths.
NORMALIZERS: dict[str, Callable[[Tensor, GroundTruth], Tensor]] = {
    'num_gts': lambda matched_gt, gt: torch.full((), float(sum(gt.counts)), device=matched_gt.device),
    'num_matched': lambda matched_gt, gt: (matched_gt >= 0).sum(dim=(1, 2)).float(),
}


@MODELS.register_module()
class SetCriterion(nn.Module):
    """The training loss. It owns everything that sees ground truth, and has no parameters.

    Args: each part is a config or a built module.
        assigner: `assigner(logits, boxes, gt) -> matched_gt`; see `HungarianAssigner`.
        loss_cls, loss_bbox, loss_iou: the losses of class, box corners and IoU, with their weights.
        normalizer: a key of `NORMALIZERS`. The divisor is averaged over processes, and at least 1.
    """

    def __init__(self, *, assigner: Part, loss_cls: Part, loss_bbox: Part, loss_iou: Part,
                 normalizer: str = 'num_gts') -> None:
        super().__init__()
        if normalizer not in NORMALIZERS:
            raise UserError(f'normalizer of SetCriterion must be one of {sorted(NORMALIZERS)}, not {normalizer!r}')
        self.assigner = build(TASK_UTILS, assigner)
        self.loss_cls, self.loss_bbox, self.loss_iou = (build(MODELS, loss) for loss in (loss_cls, loss_bbox, loss_iou))
        self.normalizer = normalizer

    def forward(self, stages: Sequence[StageOutput], gt: GroundTruth, proposals: Proposals) -> dict[str, Tensor]:
        """Return `s{k}.loss_cls`, `s{k}.loss_bbox` and `s{k}.loss_iou` of every stage k, weighted. At least float32.

        The groups of a stage are matched separately, and their losses are added. `proposals` is unused here; other
        criteria need it.
        """
        batch = gt.img_whwh.shape[0]
        logits, boxes = (at_least_float32(torch.cat([rows.unflatten(0, (-1, batch)) for rows in all_rows]))
                         for all_rows in zip(*((stage.logits, stage.boxes) for stage in stages), strict=True))
        with torch.autocast(logits.device.type, enabled=False):
            matched_gt = self.assigner(logits.detach(), boxes.detach(), gt)
            losses = self.losses(logits, boxes, matched_gt, gt)
        groups = [stage.logits.shape[0] // batch for stage in stages]
        return {f's{stage}.{name}': loss.split(groups)[stage].sum()
                for stage in range(len(stages)) for name, loss in losses.items()}

    def losses(self, logits: Tensor, boxes: Tensor, matched_gt: Tensor, gt: GroundTruth) -> dict[str, Tensor]:
        """Return `loss_cls`, `loss_bbox` and `loss_iou`, weighted and each (S,), for given matches.

        Logits are (S, B, N, K), boxes (S, B, N, 4), and `matched_gt` (S, B, N).
        """
        # An extra row means "no ground truth": the background class, and a unit box that equals its prediction. So
        # all stages, images and proposals are computed alike, whatever is matched, and without a host sync.
        nothing = len(gt.labels)
        start = matched_gt.new_tensor([0, *gt.counts[:-1]]).cumsum(0)[:, None]
        row = torch.where(matched_gt >= 0, matched_gt + start, nothing)
        unit_box = boxes.new_tensor([[0, 0, 1, 1]])
        target_labels = torch.cat([gt.labels, gt.labels.new_tensor([logits.shape[-1]])])[row]
        target_boxes = torch.cat([gt.boxes.to(boxes.dtype), unit_box])[row]
        boxes = torch.where((matched_gt >= 0)[..., None], boxes, unit_box)

        count = NORMALIZERS[self.normalizer](matched_gt, gt)
        all_reduce(count, op='mean')
        count = count.clamp(min=1)
        losses = {
            'loss_cls': self.loss_cls(logits, target_labels, reduction_override='none'),
            'loss_bbox': self.loss_bbox(boxes / gt.img_whwh, target_boxes / gt.img_whwh, reduction_override='none'),
            'loss_iou': self.loss_iou(boxes, target_boxes, reduction_override='none'),
        }
        return {name: loss.flatten(1).sum(1) / count for name, loss in losses.items()}


@MODELS.register_module()
class Criteria(nn.Module):
    """Several criteria side by side.

    Args:
        parts: name -> criterion, as a config or built. The name and a dot are put before the names of its losses.
    """

    def __init__(self, *, parts: dict[str, Part]) -> None:
        super().__init__()
        self.parts = nn.ModuleDict({name: build(MODELS, part) for name, part in parts.items()})

    def forward(self, stages: Sequence[StageOutput], gt: GroundTruth, proposals: Proposals) -> dict[str, Tensor]:
        """Compute the losses of all parts."""
        return {f'{name}.{key}': loss for name, part in self.parts.items()
                for key, loss in part(stages, gt, proposals).items()}
