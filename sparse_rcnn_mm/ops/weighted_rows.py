"""Weighted sums of the rows of a table, with one shared gradient."""
from __future__ import annotations

import warnings
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

warnings.filterwarnings('ignore', message='Sparse CSR tensor support is in beta')


class WeightedRows:
    """A table (R, C) whose rows are summed many times.

    With plain autograd, each sum allocates a gradient as large as the table, although it reads few rows. Here, on the
    CPU, all sums add to a single gradient.
    """

    def __init__(self, rows: Tensor) -> None:
        self.rows, self._gradient, self._all = rows, None, None
        if rows.requires_grad and rows.is_cpu and torch.backends.mkl.is_available():
            self._gradient = _Gradient(rows)
            self._all = _AllSums.apply(rows, self._gradient)
            self.rows = rows.detach()

    def sums(self, index: Tensor, weight: Tensor) -> Tensor:
        """M sums (M, C) of K rows each, from row numbers (M, K) long and weights (M, K)."""
        if self._all is None:
            return _sums(self.rows, index, weight)
        return _OneSum.apply(self._all, self.rows, index, weight, self._gradient)


def _sums(rows: Tensor, index: Tensor, weight: Tensor) -> Tensor:
    return F.embedding_bag(index, rows, mode='sum', per_sample_weights=weight.to(rows.dtype))


def _weight_gradient(rows: Tensor, index: Tensor, weight: Tensor, grad: Tensor) -> Tensor:
    with torch.enable_grad():
        weight = weight.detach().requires_grad_()
        return torch.autograd.grad(_sums(rows, index, weight), weight, grad)[0]


class _Gradient:
    """The gradient of the table, added up in float32 or float64."""

    def __init__(self, rows: Tensor) -> None:
        self.shape, self.dtype = rows.shape, rows.dtype
        self.total: Tensor | None = None

    def add(self, index: Tensor, weight: Tensor, grad: Tensor) -> None:
        """Add the share of M sums with the gradient `grad` (M, C). `index` and `weight` (M, K) are a sparse matrix."""
        if self.total is None:
            self.total = torch.zeros(self.shape, dtype=torch.promote_types(self.dtype, torch.float32))
        dtype = self.total.dtype
        ends = torch.arange(0, index.numel() + 1, index.shape[1])
        matrix = torch.sparse_csr_tensor(ends, index.flatten(), weight.flatten().to(dtype),
                                         (len(index), self.shape[0]), check_invariants=False)
        torch.addmm(self.total, matrix.t(), grad.to(dtype), out=self.total)

    def take(self) -> Tensor:
        """Return the gradient and reset it."""
        assert self.total is not None
        total, self.total = self.total, None
        return total.to(self.dtype)


class _OneSum(torch.autograd.Function):
    """One sum. It passes a 0 to `_AllSums`, so that autograd knows when the last sum has added its gradient."""

    @staticmethod
    def forward(ctx: Any, everything: Tensor, rows: Tensor, index: Tensor, weight: Tensor,
                gradient: _Gradient) -> Tensor:
        ctx.save_for_backward(rows, index, weight)
        ctx.gradient = gradient
        return _sums(rows, index, weight)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, Tensor | None, None]:
        rows, index, weight = ctx.saved_tensors
        ctx.gradient.add(index, weight, grad)
        of_weight = _weight_gradient(rows, index, weight, grad) if ctx.needs_input_grad[3] else None
        return grad.new_zeros(()), None, None, of_weight, None


class _AllSums(torch.autograd.Function):
    """The node that every sum depends on. It runs last in the backward pass and returns the gradient of the table."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, gradient: _Gradient) -> Tensor:
        ctx.gradient = gradient
        return rows.new_zeros(())

    @staticmethod
    def backward(ctx: Any, _: Tensor) -> tuple[Tensor, None]:
        return ctx.gradient.take(), None
