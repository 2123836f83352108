"""Error messages for losses, gradients and predictions that are not finite."""
from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from sparse_rcnn_mm.checkpoints import unwrapped
from sparse_rcnn_mm.errors import NotFinite

_MOST = 3  # how many parameters a message names


class LossTerms:
    """A forward hook that keeps the losses of the last forward pass, so that a message can name those that are NaN."""

    def __init__(self) -> None:
        self.terms: dict[str, Tensor] = {}

    def __call__(self, module: nn.Module, inputs: Any, outputs: Any) -> None:
        """Keep the losses; the signature is that of a forward hook."""
        self.terms = {}
        if isinstance(outputs, Mapping):
            self.terms = {name: value.detach() for name, value in outputs.items() if isinstance(value, Tensor)}

    def not_finite(self) -> list[str]:
        """The names of the losses that are not finite."""
        return [name for name, value in self.terms.items() if not value.isfinite().all()]


def explain(error: NotFinite, runner: Any, batch: Any) -> NotFinite:
    """Complete the message: what is not finite, at which iteration and learning rate, and for which images.

    Args:
        error: the error as it was raised.
        runner: the Runner, with its `loss_terms`.
        batch: the batch from its data loader.
    """
    terms = runner.loss_terms.not_finite()
    parameters = [name for name, p in unwrapped(runner.model).named_parameters()
                  if p.grad is not None and not p.grad.isfinite().all()]
    named = [*(f'loss {name}' for name in terms), *(f'gradient of {name}' for name in parameters[:_MOST])]
    if len(parameters) > _MOST:
        named.append(f'and of {len(parameters) - _MOST} other parameters')
    about = f' ({", ".join(named)})' if named and not error.predictions else ''
    rate = runner.optim_wrapper.get_lr()['lr'][0]
    return NotFinite(f'{error}{about} at iteration {runner.iter + 1}, at a learning rate of {rate:.3g}, '
                     f'with the images {", ".join(_images(batch)) or "that the data loader gave"}', error.predictions)


def _images(batch: Any) -> list[str]:
    samples = batch.get('data_samples') if isinstance(batch, Mapping) else None
    paths = [getattr(sample, 'img_path', None) for sample in samples or []]
    return [Path(path).name for path in paths if path]


def learning_rate_options(cfg: Any) -> str:
    """The --cfg-options that change the learning rate of a config."""
    schedulers = cfg.get('param_scheduler') or []
    schedulers = schedulers if isinstance(schedulers, (list, tuple)) else [schedulers]
    own = [f'param_scheduler.{i}.eta_max=NUMBER' for i, s in enumerate(schedulers)
           if 'OneCycle' in str(s.get('type')) and 'eta_max' in s]
    return ' '.join(own or ['optim_wrapper.optimizer.lr=NUMBER'])
