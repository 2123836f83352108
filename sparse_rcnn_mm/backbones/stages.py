"""The stages of any backbone: which feature map each parameter is for."""
from __future__ import annotations

import torch
from torch import nn

_SIDE = 64  # pixels; feature maps of stride 32 are 2 x 2


def stages_of(backbone: nn.Module) -> dict[str, int]:
    """Find the stage of every parameter: the first feature map that depends on it, from 0.

    The stem belongs to the first stage. Parameters that no feature map depends on are not in the result. Found by
    running the backbone on a small image and following the gradients, so any backbone works. Nothing is changed.
    """
    parameters = dict(backbone.named_parameters())
    before = {name: (value.requires_grad, value.grad) for name, value in parameters.items()}
    training = {module: module.training for module in backbone.modules()}
    found: dict[str, int] = {}
    try:
        backbone.eval()  # batch norms keep their statistics
        for value in parameters.values():
            value.requires_grad_(True)
        image = next(iter(parameters.values())).new_ones(1, 3, _SIDE, _SIDE)
        with torch.enable_grad():
            maps = backbone(image)
        for stage, features in enumerate(maps):
            for value in parameters.values():
                value.grad = None
            # `backward`, because `grad` does not work with activation checkpointing
            features.sum().backward(retain_graph=True)
            for name, value in parameters.items():
                if value.grad is not None:
                    found.setdefault(name, stage)
    finally:
        for name, value in parameters.items():
            requires_grad, value.grad = before[name]
            value.requires_grad_(requires_grad)
        for module, mode in training.items():
            module.training = mode
    return found
