"""Operations that run faster on CPUs than PyTorch's own."""
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


def at_least_float32(x: Tensor) -> Tensor:
    """`x` as float32 if autocast made it half precision. float64 is kept."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def float32_on_cpu(x: Tensor, weight: Tensor) -> bool:
    """Whether a layer computes in float32 on the CPU. In all other cases PyTorch's own operations are faster."""
    return x.is_cpu and x.dtype == weight.dtype == torch.float32 and not torch.is_autocast_enabled('cpu')


def register_cpu_op(schema: str, compute: Callable[..., Tensor], empty: Callable[..., Tensor],
                    backward: Callable[..., Any], save: Callable[..., None]) -> None:
    """Register a differentiable operation for the CPU as `torch.ops.sparse_rcnn_mm.NAME`.

    `torch.library.custom_op` would import torch's compiler when the operation first runs, which takes a second.

    Args:
        schema: name, arguments and result, in PyTorch's notation.
        compute: the operation.
        empty: returns an uninitialized result, for tracing.
        backward, save: `backward` and `setup_context` of `torch.library.register_autograd`.
    """
    name, parentheses, rest = schema.partition('(')
    name = f'sparse_rcnn_mm::{name}'
    torch.library.define(name, parentheses + rest, tags=(torch.Tag.pt2_compliant_tag,))
    torch.library.impl(name, 'cpu')(compute)
    torch.library.register_fake(name)(empty)
    torch.library.register_autograd(name, backward, setup_context=save)
