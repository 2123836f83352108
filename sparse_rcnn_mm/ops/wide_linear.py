"""A linear layer with very many outputs, as in dynamic convolution, that is faster on the CPU than PyTorch's own."""
from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from sparse_rcnn_mm.ops import float32_on_cpu, register_cpu_op

HAS_ONEDNN = torch.backends.mkldnn.is_available()
# Number of outputs whose gradient is copied at once, small enough to stay in the cache.
PANEL = 512


def wide_linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """`x` (M, C), weights (D, C) and biases (D,) to (M, D). Equals `F.linear` up to float32 rounding."""
    if HAS_ONEDNN and float32_on_cpu(x, weight):
        return torch.ops.sparse_rcnn_mm.onednn_linear(x, weight, bias)
    return F.linear(x, weight, bias)


def onednn_linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """`wide_linear` with oneDNN. PyTorch's MKL path writes the output twice, first the bias alone."""
    # The op reads its inputs as contiguous even when they are not.
    return torch.ops.mkldnn._linear_pointwise(x.contiguous(), weight.contiguous(), bias.contiguous(), 'none', [], '')


def _empty_result(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return x.new_empty(len(x), len(weight))


def _save(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[:2])


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    x, weight = ctx.saved_tensors
    of_x, of_weight, of_bias = ctx.needs_input_grad
    return (grad @ weight if of_x else None, _weight_gradient(x, grad) if of_weight else None,
            grad.sum(dim=0) if of_bias else None)


register_cpu_op('onednn_linear(Tensor x, Tensor weight, Tensor bias) -> Tensor', onednn_linear, _empty_result,
                _backward, _save)


def _weight_gradient(x: Tensor, grad: Tensor) -> Tensor:
    """grad.T @ x, panel by panel.

    The rows of the whole gradient are a power of two apart in memory. Reading it by columns would therefore use only a
    few sets of the cache.
    """
    result = grad.new_empty(grad.shape[1], x.shape[1])
    for panel, rows in zip(grad.split(PANEL, dim=1), result.split(PANEL), strict=True):
        torch.mm(panel.contiguous().T, x, out=rows)
    return result
