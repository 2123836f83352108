"""3x3 convolutions on the CPU with fewer multiplications, for prediction and training.

With stride 1, the forward pass and both gradients use Winograd's algorithm (arXiv 1509.09308). GPU libraries choose it
by themselves. On CPUs, PyTorch has it in NNPACK but uses oneDNN's direct convolutions instead. With stride 2, the
gradient of the kernels is nine matrix products; oneDNN takes up to four times as long on channels-last activations.
"""
from __future__ import annotations

import itertools
import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sparse_rcnn_mm.ops import float32_on_cpu, register_cpu_op

from .winograd_gradient import BAND_BYTES, winograd_weight_gradient

# Convolutions with fewer cells or channels than this are faster in PyTorch.
WORTH_CELLS = 600
WORTH_CHANNELS = 64
# With more channels, the transformed kernels need more memory than the saved time is worth.
WINOGRAD_CHANNELS = 256


class Conv3x3(nn.Conv2d):
    """A 3x3 convolution with stride 1 or 2 and padding 1. Equals `nn.Conv2d` up to float32 rounding."""

    def _conv_forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        worth = x.shape[2] * x.shape[3] >= WORTH_CELLS and min(weight.shape[:2]) >= WORTH_CHANNELS
        if worth and float32_on_cpu(x, weight):
            return torch.ops.sparse_rcnn_mm.conv3x3(x, weight, bias, self.stride[0])
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


def use_conv3x3(model: nn.Module) -> None:
    """Turn the 3x3 convolutions of `model` into `Conv3x3`, in place, if PyTorch was built with NNPACK."""
    if torch.backends.nnpack.is_available():
        for module in model.modules():
            if type(module) is nn.Conv2d and _is_plain(module):
                module.__class__ = Conv3x3


def _is_plain(conv: nn.Conv2d) -> bool:
    return (conv.kernel_size == (3, 3) and conv.stride in ((1, 1), (2, 2)) and conv.padding == conv.dilation == (1, 1)
            and conv.groups == 1 and conv.padding_mode == 'zeros')


def conv3x3(x: Tensor, weight: Tensor, bias: Tensor | None, stride: int) -> Tensor:
    """Convolve images (B, C, H, W) with kernels (D, C, 3, 3) and zero padding to (B, D, H / stride, W / stride)."""
    if not _by_winograd(weight, stride):
        return F.conv2d(x, weight, bias, stride, padding=1)
    weight = weight.contiguous()
    result = _empty_result(x, weight, bias, stride)
    for image, target in zip(x, result, strict=True):  # NNPACK is fast only for one image at a time
        _winograd(image, weight, bias, target)
    return result


def _by_winograd(weight: Tensor, stride: int) -> bool:
    return stride == 1 and max(weight.shape[:2]) <= WINOGRAD_CHANNELS


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
    return (input_gradient(x, weight, grad, ctx.stride) if of_x else None,
            weight_gradient(x, grad, ctx.stride) if of_weight else None,
            grad.sum(dim=(0, 2, 3)) if of_bias else None, None)


register_cpu_op('conv3x3(Tensor x, Tensor weight, Tensor? bias, int stride) -> Tensor', conv3x3, _empty_result,
                _backward, _save)


def input_gradient(x: Tensor, weight: Tensor, grad: Tensor, stride: int) -> Tensor:
    """The gradient (B, C, H, W) of the images from that of the result, `grad` (B, D, H / stride, W / stride)."""
    if _by_winograd(weight, stride):
        return torch.ops.sparse_rcnn_mm.conv3x3(grad, weight.flip(2, 3).transpose(0, 1), None, 1)
    return torch.ops.aten.convolution_backward(grad, x, weight, None, [stride] * 2, [1, 1], [1, 1], False, [0, 0], 1,
                                               [True, False, False])[0]


def weight_gradient(x: Tensor, grad: Tensor, stride: int) -> Tensor:
    """The gradient (D, C, 3, 3) of the kernels from that of the result, `grad` (B, D, H / stride, W / stride)."""
    if stride == 1:
        return winograd_weight_gradient(x, grad)
    height, width = ((side - 1) * stride + 1 for side in grad.shape[2:])
    cells, image = grad.permute(0, 2, 3, 1).flatten(0, 2), F.pad(x, (1, 1, 1, 1)).permute(0, 2, 3, 1)
    taps = [cells.T @ image[:, y:y + height:stride, column:column + width:stride].flatten(0, 2)
            for y, column in itertools.product(range(3), repeat=2)]
    return torch.stack(taps, dim=-1).unflatten(-1, (3, 3))
