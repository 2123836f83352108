"""Optimizer wrappers that step only if loss and gradients are finite, and mixed precision on CPUs."""
from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from mmengine.optim import AmpOptimWrapper as MMEngineAmpOptimWrapper
from mmengine.optim import OptimWrapper as MMEngineOptimWrapper
from torch import Tensor, nn

from sparse_rcnn_mm.errors import NotFinite
from sparse_rcnn_mm.registry import OPTIM_WRAPPERS

# The loss scale starts at 65,536 and is halved at every overflow: it is below this limit after 26 overflows in a row.
_LEAST_SCALE = 1e-3


class _Guarded(MMEngineOptimWrapper):
    """Raises `NotFinite` before a bad step changes the weights.

    Attributes:
        settled: whether weights, optimizer and accumulated gradients belong to the last complete iteration. Set by the
            training loop.
    """

    settled = False

    @property
    def accumulating(self) -> bool:
        """Whether some, but not all, of the gradients for the next step have been accumulated."""
        return bool(self._inner_count % self._accumulative_counts)

    def backward(self, loss: Tensor, **kwargs: Any) -> None:
        if self.accumulating:
            self.settled = False
        super().backward(loss, **kwargs)
        self._check(loss)

    def step(self, **kwargs: Any) -> None:
        self.settled = False
        super().step(**kwargs)

    def gradients(self) -> list[Tensor]:
        return [p.grad for group in self.optimizer.param_groups for p in group['params'] if p.grad is not None]

    def _check(self, loss: Tensor) -> None:
        norms = torch.stack([loss.detach().abs().to(torch.float32), *(
            norm.to(torch.float32) for norm in torch._foreach_norm(self.gradients()))])
        if not norms.isfinite().all():  # the only synchronization with the device
            raise NotFinite('the gradients are not finite' if loss.isfinite() else 'the loss is not finite')

    def initialize_count_status(self, model: nn.Module, init_counts: int, max_counts: int) -> None:
        """Like mmengine's, without its warning about lost gradients: our checkpoints contain them."""
        self._inner_count = init_counts
        self._max_counts = max_counts
        self._remainder_counts = max_counts % self._accumulative_counts


@OPTIM_WRAPPERS.register_module()
class OptimWrapper(_Guarded):
    """mmengine's OptimWrapper with guarded steps."""


@OPTIM_WRAPPERS.register_module()
class CPUAmpOptimWrapper(_Guarded):
    """Autocast to bfloat16 on the CPU. Its range is that of float32, so no loss scaling is needed."""

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Run the forward pass in mixed precision."""
        with super().optim_context(model), torch.autocast('cpu', dtype=torch.bfloat16):
            yield


@OPTIM_WRAPPERS.register_module()
class AmpOptimWrapper(_Guarded, MMEngineAmpOptimWrapper):
    """mmengine's AmpOptimWrapper with guarded steps.

    Its loss scaler skips single steps whose gradients overflow float16, and then lowers the scale.
    """

    def _check(self, loss: Tensor) -> None:
        if not loss.isfinite():
            raise NotFinite('the loss is not finite')

    def step(self, **kwargs: Any) -> None:
        """Take a step, unless too many steps in a row had gradients that are not finite."""
        super().step(**kwargs)
        if self.loss_scaler.get_scale() < _LEAST_SCALE:
            raise NotFinite('the gradients of many steps are not finite')
