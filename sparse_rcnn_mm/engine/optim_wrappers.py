"""Steps of the optimizer, taken only with finite losses and gradients; mixed precision where there is no GPU."""
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

# Halved at every overflow from 65,536: below it, 26 steps in a row had gradients that float16 cannot hold.
_LEAST_SCALE = 1e-3


class _Guarded(MMEngineOptimWrapper):
    """Raises `NotFinite` before weights change.

    Attributes:
        settled: weights, optimizer and accumulated gradients are those of the last whole iteration. The training loop
            sets it.
    """

    settled = False

    @property
    def accumulating(self) -> bool:
        """In the middle of the batches whose gradients make one step."""
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
        if not norms.isfinite().all():  # the only wait for the device
            raise NotFinite('the gradients are not finite' if loss.isfinite() else 'the loss is not finite')

    def initialize_count_status(self, model: nn.Module, init_counts: int, max_counts: int) -> None:
        """Unlike mmengine's, it does not warn of lost gradients: a checkpoint holds them."""
        self._inner_count = init_counts
        self._max_counts = max_counts
        self._remainder_counts = max_counts % self._accumulative_counts


@OPTIM_WRAPPERS.register_module()
class OptimWrapper(_Guarded):
    """mmengine's OptimWrapper with guarded steps."""


@OPTIM_WRAPPERS.register_module()
class CPUAmpOptimWrapper(_Guarded):
    """Autocast to bfloat16 on the CPU; its range is float32's, so no loss scaling is needed."""

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        with super().optim_context(model), torch.autocast('cpu', dtype=torch.bfloat16):
            yield


@OPTIM_WRAPPERS.register_module()
class AmpOptimWrapper(_Guarded, MMEngineAmpOptimWrapper):
    """mmengine's AmpOptimWrapper with guarded steps.

    Single steps whose gradients overflow float16 are skipped, by its loss scaler, which then scales less.
    """

    def _check(self, loss: Tensor) -> None:
        if not loss.isfinite():
            raise NotFinite('the loss is not finite')

    def step(self, **kwargs: Any) -> None:
        super().step(**kwargs)
        if self.loss_scaler.get_scale() < _LEAST_SCALE:
            raise NotFinite('the gradients of many steps are not finite')
