"""The parts of a model: which weights of each were loaded from a checkpoint, are trained, and changed."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sparse_rcnn_mm.checkpoints import LoadReport

from .measurements import Part, Weights

MASK_HEADS = 'mask heads'


def part_of(name: str) -> str:
    """Return the part of a parameter: backbone, neck, proposals, a stage, or the classifiers or masks of all stages."""
    pieces = name.split('.')
    if 'fc_cls' in pieces:
        return 'classifier'
    if pieces[:2] == ['roi_head', 'bbox_head']:
        return f'stage {int(pieces[2]) + 1}'
    if pieces[:2] == ['roi_head', 'mask_head']:
        return MASK_HEADS
    return {'rpn_head': 'proposals'}.get(pieces[0], pieces[0])


def measure_parts(model: nn.Module, report: LoadReport | None, backbone_is_loaded: bool) -> list[Part]:
    """Measure the parts, in the model's order. `report` is about the checkpoint, if one was loaded.

    Args:
        backbone_is_loaded: whether the backbone has pretrained weights from another source.
    """
    loaded = set(report.loaded if report else ())
    parts: dict[str, Part] = {}
    for name, parameter in model.named_parameters():
        part = parts.setdefault(part_of(name), Part(part_of(name), 0))
        known = name in loaded or (backbone_is_loaded and name.startswith('backbone.'))
        part.tensors += 1
        part.loaded += known
        part.reshaped += name in (report.reshaped if report else {})
        part.frozen += not parameter.requires_grad
        # weights and biases of new norms are 1 and 0, which is harmless
        part.frozen_at_random += not parameter.requires_grad and not known and parameter.dim() > 1
    return list(parts.values())


def random_statistics(model: nn.Module) -> int:
    """Count the batch norms that use running statistics in training although these were never updated."""
    model.train()
    norms = [one for one in model.modules() if isinstance(one, nn.modules.batchnorm._BatchNorm)]
    return sum(not one.training and one.running_mean is not None and one.running_var is not None
               and not one.running_mean.any() and bool((one.running_var == 1).all()) for one in norms)


def measure_weights(model: nn.Module, report: LoadReport | None, source: str, pretrained: str,
                    names: tuple[Sequence[str] | None, Sequence[str]]) -> Weights:
    """Describe the weights that training starts from.

    Args:
        names: the class names of the checkpoint (None if it does not say), and those of the data.
    """
    weights = Weights(source, pretrained, measure_parts(model, report, bool(pretrained)),
                      unknown=len(report.unexpected) if report else 0, our_classes=len(names[1]),
                      random_statistics=random_statistics(model))
    shapes = [shape[0] for name, shape in (report.reshaped if report else {}).items() if name.endswith('fc_cls.bias')]
    theirs, ours = names
    if shapes:
        weights.their_classes = shapes[0][0]
    elif report and theirs and tuple(theirs) != tuple(ours) and any(
            part.name == 'classifier' and part.loaded for part in weights.parts):
        weights.other_names = next((pair for pair in zip(theirs, ours, strict=False) if pair[0] != pair[1]), None)
    return weights


def snapshot(model: nn.Module) -> dict[str, Tensor]:
    """Copy all weights and statistics."""
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def note_moves(parts: Sequence[Part], model: nn.Module, before: Mapping[str, Tensor]) -> None:
    """Count the parameters that differ from `before`."""
    by_name: dict[str, Any] = {part.name: part for part in parts}
    for name, parameter in model.named_parameters():
        by_name[part_of(name)].moved += not torch.equal(parameter.detach(), before[name])
