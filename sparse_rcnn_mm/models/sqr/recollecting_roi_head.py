"""Selective query recollection (section 4 of the paper): in training, a stage gets outputs of several earlier ones."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from sparse_rcnn_mm.errors import UserError
from sparse_rcnn_mm.registry import MODELS, Part

from ..sparse_roi_head import SparseRoIHead
from ..structures import Proposals, StageOutput


@MODELS.register_module()
class RecollectingRoIHead(SparseRoIHead):
    """Trains late stages also on the outputs of earlier ones. Prediction and checkpoints are those of the plain head.

    A stage gets the outputs of the `recollect` stages before it as groups of queries, oldest first; the proposals count
    as the output before the first stage. With 2, six stages get 1, 2, 3, 5, 8 and 13 groups. Groups are independent:
    they are folded into the batch, where row r belongs to image r % B, and the criterion matches each separately.

    Args:
        bbox_head, num_stages, order, roi_extractor, with_cp: as in `SparseRoIHead`.
        recollect: how many previous stages provide inputs for a stage; 1 is plain training.
    """

    def __init__(self, *, bbox_head: dict[str, Any] | Sequence[Part], num_stages: int = 6,
                 order: Sequence[int] | None = None, roi_extractor: Part, with_cp: bool = False,
                 recollect: int = 2) -> None:
        super().__init__(bbox_head=bbox_head, num_stages=num_stages, order=order, roi_extractor=roi_extractor,
                         with_cp=with_cp)
        self.recollect = checked(recollect)

    def start(self, proposals: Proposals, outputs: Sequence[StageOutput]) -> Proposals | StageOutput:
        """What the next stage gets, after those that gave `outputs`."""
        if not self.training:
            return super().start(proposals, outputs)
        # The inputs that the plain head would use after each of the last stages.
        seen = range(max(0, len(outputs) + 1 - self.recollect), len(outputs) + 1)
        return fold([super(RecollectingRoIHead, self).start(proposals, outputs[:count]) for count in seen])


def checked(recollect: int) -> int:
    """Return `recollect` if it is at least 1.

    Raises:
        UserError: it is not.
    """
    if recollect < 1:
        raise UserError(f'recollect of RecollectingRoIHead must be at least 1, not {recollect}: 1 is plain '
                        'training, 2 is the paper')
    return recollect


def fold(starts: Sequence[Proposals | StageOutput]) -> Proposals | StageOutput:
    """Concatenate inputs of G_i * B rows, as the class of the first one.

    They become `Proposals` if others lack a field, or if a field is not a tensor, such as the masks of a stage.
    """
    if len(starts) == 1:
        return starts[0]
    kind = type(starts[0])
    if not all(isinstance(getattr(start, field, None), Tensor) for start in starts for field in kind._fields):
        kind = Proposals
    return kind(*(torch.cat([getattr(start, field) for start in starts]) for field in kind._fields))
