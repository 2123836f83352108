"""1x1 and 3x3 convolutions that are faster on the CPU, for prediction and training.

For 3x3 kernels with stride 1 on large maps, the forward pass and both gradients use Winograd's algorithm (arXiv
1509.09308). GPU libraries choose it by themselves. On CPUs, PyTorch has it in NNPACK but uses oneDNN's direct
convolutions instead. Otherwise, the gradient of the kernels is a matrix product for each of their cells. For it, on
channels-last activations, oneDNN takes up to four times as long for 3x3 kernels, and a fifth longer for 1x1 kernels.
"""
from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sparse_rcnn_mm.ops import float32_on_cpu, register_cpu_op

from .winograd_gradient import BAND_BYTES, winograd_weight_gradient

# Convolutions with fewer cells in all images, or with fewer channels, are faster in PyTorch.
# Winograd's algorithm is faster only where each image has this many cells.
WORTH_CELLS = 600
WORTH_CHANNELS = 64
# With more channels, the transformed kernels need more memory than the saved time is worth.
WINOGRAD_CHANNELS = 256


class FastConv2d(nn.Conv2d):
    """A 1x1 or 3x3 convolution with stride 1 or 2. Equals `nn.Conv2d` up to float32 rounding."""

    def _conv_forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        worth = len(x) * _cells(x) >= WORTH_CELLS and min(weight.shape[:2]) >= WORTH_CHANNELS
        if worth and float32_on_cpu(x, weight):
            return torch.ops.sparse_rcnn_mm.conv2d(x, weight, bias, self.stride[0])
        return super()._conv_forward(x, weight, bias)


class NarrowConv1x1(nn.Conv2d):
    """A strided 1x1 convolution of fewer than 16 channels, computed without stride on a subset of the cells.

    On processors with AVX-512, oneDNN's gradient of such kernels crashes the process (torch 2.13, channels-last).
    """

    def _conv_forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return F.conv2d(x[:, :, ::self.stride[0], ::self.stride[1]], weight, bias)


def avoid_narrow_conv1x1(model: nn.Module) -> None:
    """Turn the strided 1x1 convolutions of `model` with few channels into `NarrowConv1x1`, in place."""
    for module in model.modules():
        if (type(module) is nn.Conv2d and module.kernel_size == (1, 1) and module.stride != (1, 1)
                and module.padding == (0, 0) and module.groups == 1 and module.in_channels < 16):
            module.__class__ = NarrowConv1x1


def use_fast_conv2d(model: nn.Module, kernel_sizes: Sequence[int]) -> None:
    """Turn convolutions of `model` with these kernel sizes into `FastConv2d`, in place, if PyTorch has NNPACK."""
    if torch.backends.nnpack.is_available():
        for module in model.modules():
            if type(module) is nn.Conv2d and any(_is_plain(module, size) for size in kernel_sizes):
                module.__class__ = FastConv2d


def _is_plain(conv: nn.Conv2d, size: int) -> bool:
    return (conv.kernel_size == (size, size) and conv.stride in ((1, 1), (2, 2)) and conv.padding == (size // 2,) * 2
            and conv.dilation == (1, 1) and conv.groups == 1 and conv.padding_mode == 'zeros')


def conv2d(x: Tensor, weight: Tensor, bias: Tensor | None, stride: int) -> Tensor:
    """Convolve images (B, C, H, W) with kernels (D, C, K, K) and zero padding to (B, D, H / stride, W / stride)."""
    size = weight.shape[2]
    if not _by_winograd(x, len(weight), size, stride):
        result = F.conv2d(x, weight, bias, stride, padding=size // 2)
        return result.contiguous(memory_format=torch.channels_last)  # as `_empty_result` promises; nearly always is
    weight = weight.contiguous()
    result = _empty_result(x, weight, bias, stride)
    for image, target in zip(x, result, strict=True):  # NNPACK is fast only for one image at a time
        _winograd(image, weight, bias, target)
    return result


def _by_winograd(x: Tensor, channels: int, size: int, stride: int) -> bool:
    return size == 3 and stride == 1 and _cells(x) >= WORTH_CELLS and max(x.shape[1], channels) <= WINOGRAD_CHANNELS


def _cells(x: Tensor) -> int:
    return x.shape[2] * x.shape[3]


def _winograd(image: Tensor, weight: Tensor, bias: Tensor | None, result: Tensor) -> None:
    """Write the result (D, H, W) for one image (C, H, W), band by band to save memory."""
    channels, height, width = image.shape
    cells = image.permute(1, 2, 0).contiguous()
    result = result.permute(1, 2, 0)
    rows = math.ceil(height / math.ceil(cells.nbytes / BAND_BYTES))
    for top in range(0, height, rows):
        bottom, start = min(top + rows, height), max(top - 1, 0)
        band = cells[start:bottom + 1]
        # NNPACK wants channels-first. Transposing matrices is faster than converting images.
        planes = band.view(-1, channels).t().contiguous().view(1, channels, -1, width)
        planes = torch._nnpack_spatial_convolution(planes, weight, bias, [1, 1])[0]
        planes = planes[:, top - start:][:, :bottom - top].flatten(1)
        result[top:bottom].view(-1, len(weight)).copy_(planes.T)


def _empty_result(x: Tensor, weight: Tensor, bias: Tensor | None, stride: int) -> Tensor:
    height, width = ((side - 1) // stride + 1 for side in x.shape[2:])
    return torch.empty(len(x), len(weight), height, width, dtype=x.dtype, device=x.device,
                       memory_format=torch.channels_last)  # not a view: what follows may write into it


def _save(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor | None, int], output: Tensor) -> None:
    x, weight, _, ctx.stride = inputs
    ctx.save_for_backward(x, weight)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:
    x, weight = ctx.saved_tensors
    of_x, of_weight, of_bias, _ = ctx.needs_input_grad
    # First that of the kernels, which needs more memory to work in, and leaves less.
    weight_grad = weight_gradient(x, grad, weight.shape[2], ctx.stride) if of_weight else None
    return (input_gradient(x, weight, grad, ctx.stride) if of_x else None, weight_grad,
            # One sum over three dimensions takes 20 times as long where the images lie apart in memory.
            grad.sum(dim=(2, 3)).sum(dim=0) if of_bias else None, None)


register_cpu_op('conv2d(Tensor x, Tensor weight, Tensor? bias, int stride) -> Tensor', conv2d, _empty_result,
                _backward, _save)


def input_gradient(x: Tensor, weight: Tensor, grad: Tensor, stride: int) -> Tensor:
    """The gradient (B, C, H, W) of the images from that of the result, `grad` (B, D, H / stride, W / stride)."""
    size = weight.shape[2]
    if _by_winograd(grad, x.shape[1], size, stride):
        return torch.ops.sparse_rcnn_mm.conv2d(grad, weight.flip(2, 3).transpose(0, 1), None, 1)
    return torch.ops.aten.convolution_backward(grad, x, weight, None, [stride] * 2, [size // 2] * 2, [1, 1], False,
                                               [0, 0], 1, [True, False, False])[0]


def weight_gradient(x: Tensor, grad: Tensor, size: int, stride: int) -> Tensor:
    """The gradient (D, C, K, K) of kernels of `size` K from that of the result, (B, D, H / stride, W / stride)."""
    if _by_winograd(x, grad.shape[1], size, stride):
        return winograd_weight_gradient(x, grad)
    height, width = ((side - 1) * stride + 1 for side in grad.shape[2:])
    cells = grad.permute(0, 2, 3, 1).flatten(0, 2)
    image = (F.pad(x, (size // 2,) * 4) if size > 1 else x).permute(0, 2, 3, 1)
    taps = [cells.T @ image[:, y:y + height:stride, column:column + width:stride].flatten(0, 2)
            for y, column in itertools.product(range(size), repeat=2)]
    return torch.stack(taps, dim=-1).unflatten(-1, (size, size))
