"""Operations that are faster on CPUs than those that torch has for them."""
import torch
from torch import Tensor


def at_least_float32(x: Tensor) -> Tensor:
    """`x` as float32 where autocast left it in half precision; float64 stays."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def float32_on_cpu(x: Tensor, weight: Tensor) -> bool:
    """Whether a layer computes there in that precision; elsewhere PyTorch's own operations are the fast ones."""
    return x.is_cpu and x.dtype == weight.dtype == torch.float32 and not torch.is_autocast_enabled('cpu')
