"""Convolutions that add a residual and apply ReLU while they write their result, for prediction on the CPU.

As separate operations, the sum and the ReLU each read and write a whole map once more. oneDNN can do them inside a
convolution. PyTorch's compiler calls these operations of oneDNN; here they are called directly.
"""
from __future__ import annotations

from typing import Any

import torch
from mmdet.models.backbones.resnet import BasicBlock, Bottleneck, ResNet
from torch import Tensor, nn

from sparse_rcnn_mm.ops import float32_on_cpu
from sparse_rcnn_mm.ops.convolutions import Conv3x3, by_winograd, conv3x3, is_large, is_plain_3x3


class FusedConv(nn.Conv2d):
    """A convolution, followed by the sum with a residual, if there is one, and by ReLU, if `relu` is set.

    For prediction only. The weights are kept a second time, in the layout that oneDNN chooses.
    """
    relu = False
    _packed: tuple[Any, Tensor] | None = None

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        """(B, C, H, W), and a residual of the shape of the result (B, D, H', W')."""
        if not float32_on_cpu(x, self.weight):
            result = super().forward(x)
        elif self._uses_winograd(x):
            result = conv3x3(x, self.weight, self.bias, 1)
        else:
            return self._by_onednn(x, residual)
        if residual is not None:
            result += residual
        return torch.relu_(result) if self.relu else result

    def _uses_winograd(self, x: Tensor) -> bool:
        return (is_plain_3x3(self) and by_winograd(self.weight, self.stride[0]) and is_large(x, self.weight)
                and torch.backends.nnpack.is_available())

    def _by_onednn(self, x: Tensor, residual: Tensor | None) -> Tensor:
        convolve = torch.ops.mkldnn._convolution_pointwise
        settings = self._packed_weight(x), self.bias, self.padding, self.stride, self.dilation, self.groups
        if residual is None:
            return convolve(x, *settings, 'relu' if self.relu else 'none', [], '')
        return convolve.binary(x, residual, *settings, 'add', 1.0, 'relu' if self.relu else None, [], None)

    def _packed_weight(self, x: Tensor) -> Tensor:
        state = self.weight.data_ptr(), self.weight._version
        if self._packed is None or self._packed[0] != state:
            reorder: Any = torch._C._nn.mkldnn_reorder_conv2d_weight
            self._packed = state, reorder(self.weight.to_mkldnn(), self.padding, self.stride, self.dilation,
                                          self.groups, x.shape)
        return self._packed[1]

    def __getstate__(self) -> dict[str, Any]:
        """Without oneDNN's layout, which cannot be copied."""
        return {name: value for name, value in super().__getstate__().items() if name != '_packed'}


class FusedBlock(nn.Module):
    """A block of ResNet: convolutions with ReLU, of which the last one also adds the input.

    Args:
        convs: the convolutions, in order.
        downsample: what the input goes through before the sum; None if nothing.
    """

    def __init__(self, convs: list[FusedConv], downsample: nn.Module | None) -> None:
        super().__init__()
        self.convs, self.downsample = nn.ModuleList(convs), downsample

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, D, H', W')."""
        residual = x if self.downsample is None else self.downsample(x)
        *first, last = self.convs
        for conv in first:
            x = conv(x)
        return last(x, residual)


def available(parameter: Tensor) -> bool:
    """Whether PyTorch can fuse convolutions of such a parameter: it must be on the CPU, in float32."""
    return (parameter.is_cpu and parameter.dtype == torch.float32 and torch.backends.mkldnn.is_available()
            and hasattr(torch.ops.mkldnn, '_convolution_pointwise'))


def fuse_convolutions(model: nn.Module) -> None:
    """Make the convolutions of `model` fused ones, in place, with ReLU and sums of mmdet's ResNet.

    Batch norms must be folded: ResNets with others, or with plugins, keep their ReLU and sums.
    """
    for module in list(model.modules()):
        if type(module) is ResNet and _is_fusible(module):
            module.conv1, module.relu = _fused(module.conv1, relu=True), nn.Identity()
        for name, child in module.named_children():
            if type(child) in (BasicBlock, Bottleneck) and _is_fusible(child):
                convs = [_fused(conv, relu=True) for conv in _convolutions(child)]
                setattr(module, name, FusedBlock(convs, child.downsample))
    for module in model.modules():
        if _is_plain(module):
            _fused(module, relu=False)


def _convolutions(block: nn.Module) -> list[nn.Module]:
    return [child for name, child in block.named_children() if name.startswith('conv')]


def _is_fusible(block: nn.Module) -> bool:
    """Whether the convolutions of a block can be fused, and nothing unknown stands between them and the ReLU."""
    known = ('conv', 'relu', 'downsample', 'maxpool', 'layer')
    return (all(map(_is_plain, _convolutions(block)))
            and all(name.startswith(known) or isinstance(child, nn.Identity) for name, child in block.named_children()))


def _is_plain(conv: nn.Module) -> bool:
    return type(conv) in (nn.Conv2d, Conv3x3) and conv.padding_mode == 'zeros' and not isinstance(conv.padding, str)


def _fused(conv: Any, relu: bool) -> FusedConv:
    conv.__class__, conv.relu = FusedConv, relu
    return conv
