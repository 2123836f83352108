"""Low-rank adaptation: linear layers train only a low-rank update of their weights (LoRA, arXiv 2106.09685).

The checkpoints of a training hold the updates beside the weights, so that it can be resumed. Whatever reads them for
another purpose adds the updates to the weights (`checkpoints/lora.py`), and so does `inference.pth`.
"""
from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sparse_rcnn_mm.checkpoints.lora import DOWN, UP
from sparse_rcnn_mm.errors import UserError

# Trained in full: classifiers, whose number of classes may be new, box regression, and the learned proposals.
_ALSO_TRAINED = ('fc_cls', 'fc_reg', 'rpn_head')


class LoRALinear(nn.Linear):
    """A linear layer whose weight is the sum of a frozen one and `lora_up @ lora_down`.

    The sum is the attribute `weight`, because some modules read it instead of calling the layer. In the state dict,
    `weight` is the frozen part.

    Attributes:
        started: whether the sum is used. Until then `weight` is the frozen part itself, so that it can be initialized.
    """

    started: bool
    lora_down: Tensor  # (rank, in_features)
    lora_up: Tensor  # (out_features, rank)

    @property
    def weight(self) -> Tensor:  # type: ignore[override]
        """The weight to compute with, (out_features, in_features)."""
        frozen = self._parameters['weight']
        assert frozen is not None
        return frozen + self.lora_up @ self.lora_down if self.started else frozen


def add_lora(model: nn.Module, rank: int, also_trained: Sequence[str] = _ALSO_TRAINED) -> list[str]:
    """Give all linear layers of `model` low-rank updates, in place, and freeze everything else.

    Args:
        model: the model. Its state dict keeps all names, and gets two more for each layer.
        rank: the rank of the updates.
        also_trained: modules with one of these names somewhere in their path are trained as before.

    Returns:
        The names of the layers with updates.

    Raises:
        UserError: the rank is not a positive number, or no linear layer is left.
    """
    if type(rank) is not int or rank < 1:
        raise UserError(f'lora.rank is {rank!r}: it is a whole number of 1 or more, such as 8')
    names = []
    for path, module in model.named_modules():
        if set(path.split('.')) & set(also_trained):
            continue
        for parameter in module.parameters(recurse=False):
            parameter.requires_grad_(False)
        if isinstance(module, nn.Linear):
            _adapt(module, rank)
            names.append(path)
    if not names:
        raise UserError('lora: the model has no linear layers to adapt')
    return names


def _adapt(layer: nn.Linear, rank: int) -> None:
    down = layer.weight.new_empty(rank, layer.in_features)
    nn.init.kaiming_uniform_(down, a=math.sqrt(5))
    layer.__class__ = LoRALinear
    assert isinstance(layer, LoRALinear)
    layer.started = False
    layer.register_parameter(DOWN, nn.Parameter(down))
    layer.register_parameter(UP, nn.Parameter(torch.zeros_like(down[:, :1]).T.repeat(layer.out_features, 1)))


def start_lora(model: nn.Module) -> None:
    """Use the updates, once the weights are initialized."""
    for module in model.modules():
        if isinstance(module, LoRALinear):
            module.started = True
