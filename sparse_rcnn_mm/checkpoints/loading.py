"""Loads a checkpoint into a model: strictly, or only what fits, with a report of the rest."""
from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, cast

from mmengine.model import is_model_wrapper
from torch import Tensor, nn

from sparse_rcnn_mm.errors import UserError
from sparse_rcnn_mm.terminal import shell_word

from .keys import from_released_adamixer
from .lora import has_lora, is_lora, merged
from .reading import read_checkpoint, state_dict_of

Shape = tuple[int, ...]


@dataclass(frozen=True)
class LoadReport:
    """Which entries of a checkpoint were loaded, and why others were not.

    Attributes:
        loaded: entries that fit.
        missing: entries of the model that are not in the checkpoint; they keep their values.
        unexpected: entries of the checkpoint that are not in the model.
        reshaped: entries with different shapes, as name -> (shape in the checkpoint, shape in the model).
    """
    loaded: list[str]
    missing: list[str]
    unexpected: list[str]
    reshaped: dict[str, tuple[Shape, Shape]]

    @property
    def complete(self) -> bool:
        """Whether everything fits."""
        return not (self.missing or self.unexpected or self.reshaped)

    def __str__(self) -> str:
        """One line with the count, then one line per entry that was skipped or is missing."""
        lines = [f'loaded {len(self.loaded)} entries']
        lines += [f'left out {name}: {theirs} in the checkpoint, {ours} in the model'
                  for name, (theirs, ours) in self.reshaped.items()]
        lines += [f'left out {name}: not in the model' for name in self.unexpected]
        lines += [f'not in the checkpoint, keeps its value: {name}' for name in self.missing]
        return '\n'.join(lines)

    def summary(self, most: int = 3) -> str:
        """Describe what does not fit in one clause, with at most `most` examples of each kind."""
        kinds = [
            ('of another shape', [f'{name} is {theirs} instead of {ours}'
                                  for name, (theirs, ours) in self.reshaped.items()]),
            ('missing', self.missing),
            ('unknown to the model', self.unexpected),
        ]
        return ', '.join(f'{len(names)} {kind} ({"; ".join(names[:most])}{"; ..." if len(names) > most else ""})'
                         for kind, names in kinds if names)


def compare(state: dict[str, Tensor], expected: dict[str, Tensor]) -> LoadReport:
    """Compare names and shapes of two state dicts."""
    shapes = {name: (tuple(state[name].shape), tuple(value.shape)) for name, value in expected.items() if name in state}
    reshaped = {name: pair for name, pair in shapes.items() if pair[0] != pair[1]}
    return LoadReport(loaded=[name for name in shapes if name not in reshaped],
                      # Batch norms use this count only for averaging over batches; if it is missing, it is 0.
                      missing=[n for n in expected if n not in state and not n.endswith('.num_batches_tracked')],
                      unexpected=[name for name in state if name not in expected],
                      reshaped=reshaped)


def load_matching(model: nn.Module, state: dict[str, Tensor]) -> LoadReport:
    """Load the entries whose name and shape fit. The report names all others, which keep the model's values."""
    module = unwrapped(model)
    report = compare(state, module.state_dict())
    module.load_state_dict({name: state[name] for name in report.loaded}, strict=False)
    return report


def load_checkpoint(model: nn.Module, path: str | os.PathLike,
                    partial: bool = False) -> tuple[dict[str, Any], LoadReport]:
    """Read a file with `read_checkpoint`, and load it into a model in place with `load_contents`."""
    checkpoint = read_checkpoint(path)
    return checkpoint, load_contents(model, checkpoint, path, partial)


def load_contents(model: nn.Module, checkpoint: dict[str, Any], path: str | os.PathLike,
                  partial: bool = False) -> LoadReport:
    """Load the contents of a checkpoint file into a model, in place.

    Args:
        model: the model. It may be wrapped for distributed training.
        checkpoint: the contents of a checkpoint of this package, or of mmdet 2.x or 3.x.
        path: the file that it was read from, for messages.
        partial: load only what fits instead of raising an error.

    Returns:
        Which entries were loaded, and which were not.

    Raises:
        UserError: the checkpoint does not fit, and `partial` is False. The model is then unchanged.
    """
    state = from_released_adamixer(state_dict_of(checkpoint))
    module = unwrapped(model)
    own = module.state_dict()
    if not has_lora(own):
        state = merged(state)
    elif not has_lora(state):
        state = {**state, **{name: value for name, value in own.items() if name not in state and is_lora(name)}}
    report = compare(state, own)
    if any(name.startswith('head.head_series.') for name in state):
        raise UserError(f'{path} is a checkpoint of the official code: '
                        'convert it first: sparse-rcnn convert ' + shell_word(path, 'FILE') + ' NEW.pth')
    if not report.loaded:
        raise UserError(f'nothing in {path} fits the model: it is a checkpoint of another model')
    if not (report.complete or partial):
        raise UserError(f'{path} does not fit the model: {report.summary()}; {_advice(report)}, '
                        'or in training and testing load only what fits with --cfg-options load_partial=True')
    return load_matching(module, state)


def unwrapped(model: nn.Module) -> nn.Module:
    """The model without the wrapper for distributed training, if there is one."""
    return cast(nn.Module, model.module) if is_model_wrapper(model) else model


def _advice(report: LoadReport) -> str:
    """Advice on the config settings that would make the checkpoint fit."""
    telling = {'fc_cls.bias': 'num_classes', 'init_proposal_bboxes.weight': 'num_proposals'}
    settings = {f'{setting} = {theirs[0]}' for name, (theirs, _) in report.reshaped.items()
                for ending, setting in telling.items() if name.endswith(ending)}
    return 'use the config it was trained with' + (f' ({", ".join(sorted(settings))})' if settings else '')
