"""Operations that run faster on CPUs than PyTorch's own."""
import torch
from torch import Tensor


def at_least_float32(x: Tensor) -> Tensor:
    """`x` as float32 if autocast made it half precision. float64 is kept."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def float32_on_cpu(x: Tensor, weight: Tensor) -> bool:
    """Whether a layer computes in float32 on the CPU. In all other cases PyTorch's own operations are faster."""
    return x.is_cpu and x.dtype == weight.dtype == torch.float32 and not torch.is_autocast_enabled('cpu')
