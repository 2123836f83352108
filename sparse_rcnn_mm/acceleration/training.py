"""The fast form of a detector for training: the same results, parameters and names."""
from __future__ import annotations

import copy
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from sparse_rcnn_mm.models import DynamicConv
from sparse_rcnn_mm.ops.convolutions import FastConv2d, avoid_narrow_conv1x1, use_fast_conv2d

from .prediction import neighbors, same_outputs


class FoldedBatchNorm2d(nn.BatchNorm2d):
    """A batch norm that the convolution before it computes, while its statistics are fixed and autocast is off."""

    @property
    def folded(self) -> bool:
        """Whether the convolution computes it now."""
        return not self.training and not torch.is_autocast_enabled(self.weight.device.type)

    def forward(self, x: Tensor) -> Tensor:
        """Normalize (B, C, H, W)."""
        return x if self.folded else super().forward(x)


class _FoldingConv(nn.Conv2d):
    """A convolution that multiplies its kernels by the scale of a folded batch norm, and adds the shift.

    So activations are read and kept once instead of twice; kernels, scale and shift get their usual gradients.
    Source: Tune mode of "Efficient ConvBN Blocks for Transfer Learning and Beyond" (arXiv 2305.11624).
    """

    norm: tuple[FoldedBatchNorm2d]  # in a tuple, since it is not a part of the convolution

    def forward(self, x: Tensor) -> Tensor:
        """Convolve (B, C, H, W)."""
        norm, = self.norm
        if not norm.folded:
            return super().forward(x)
        assert isinstance(norm.running_mean, Tensor) and isinstance(norm.running_var, Tensor)
        scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
        shift = norm.bias - norm.running_mean * scale

        def scaled() -> Tensor:
            return self.weight * scale[:, None, None, None]

        kernels = scaled()
        if torch.compiler.is_compiling():
            return self._conv_forward(x, kernels, shift)
        place = kernels.data_ptr()

        def keep(value: Tensor) -> Tensor | None:
            return None if value.data_ptr() == place else value

        def kept(value: Tensor | None) -> Tensor:
            return scaled().detach() if value is None else value

        with torch.autograd.graph.saved_tensors_hooks(keep, kept):  # kernels are multiplied again instead of kept
            return self._conv_forward(x, kernels, shift)


class FoldingConv2d(_FoldingConv):
    """Folds into PyTorch's convolution."""


class FoldingFastConv2d(_FoldingConv, FastConv2d):
    """Folds into ours."""


_FOLDING: dict[type, type] = {nn.Conv2d: FoldingConv2d, FastConv2d: FoldingFastConv2d}


class RecomputingDynamicConv(DynamicConv):
    """A dynamic convolution that keeps RoI features and kernels for the backward pass, and computes the rest again.

    With 300 proposals, a training step takes 1% longer and needs a sixth less memory. Gradients are the same.
    """

    def forward(self, queries: Tensor, roi_feats: Tensor) -> Tensor:
        """Queries (M, C) and RoI features (M, P*P, C) to (M, C)."""
        if torch.compiler.is_compiling() or not torch.is_grad_enabled():
            return super().forward(queries, roi_feats)
        x = checkpoint(self._before_norm, roi_feats, *self.kernels(queries), use_reentrant=False,
                       preserve_rng_state=False)
        return self.fc_norm(x).relu_()

    def _before_norm(self, roi_feats: Tensor, kernel_in: Tensor, kernel_out: Tensor) -> Tensor:
        # Recomputing stops at the linear layer, since its result is not needed inside.
        return self.fc_layer(self.convolve(roi_feats, kernel_in, kernel_out).flatten(1))


def fast_training(model: nn.Module) -> nn.Module:
    """Change `model` in place to its fast form, and return it.

    Convolutions become channels-last. On the CPU, 3x3 convolutions need fewer multiplications, and gradients of kernels
    are matrix products. Batch norms of the backbone whose statistics are fixed are computed by the convolutions before
    them. Dynamic convolutions compute again what would take much memory. Parameters keep their names.
    """
    for module in model.modules():
        if type(module) is DynamicConv:
            module.__class__ = RecomputingDynamicConv
    avoid_narrow_conv1x1(model)
    use_fast_conv2d(model, kernel_sizes=(1, 3))
    if isinstance(backbone := getattr(model, 'backbone', None), nn.Module):
        fold_fixed_norms(backbone)
    return model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def fold_fixed_norms(net: nn.Module) -> None:
    """Let convolutions of `net`, in place, compute the batch norms after them while these have fixed statistics.

    This assumes that a convolution feeds only the batch norm that is registered right after it. A copy with other
    weights is tried first; a network for which this does not hold is not changed.
    """
    if not any(_pairs(net)):
        return
    tried = copy.deepcopy(net)
    tried.eval()  # returns nothing in mmdet's ResNet
    for _, norm in _pairs(tried):
        for values in (norm.weight.data, norm.bias.data):
            values.copy_(torch.linspace(0.5, 1.5, len(values)))
    image = torch.linspace(0, 999, 3 * 128 * 128).sin().view(1, 3, 128, 128).to(next(net.parameters()))
    with torch.no_grad():
        wanted = tried(image)
        _fold(tried)
        if same_outputs(tried(image), wanted):
            _fold(net)


def _fold(net: nn.Module) -> None:
    for conv, norm in _pairs(net):
        conv.__class__, norm.__class__ = _FOLDING[type(conv)], FoldedBatchNorm2d
        conv.norm = (norm,)  # type: ignore[assignment]


def _pairs(net: nn.Module) -> Iterator[tuple[nn.Conv2d, nn.BatchNorm2d]]:
    for _, (_, conv), (_, norm) in neighbors(net):
        if (type(conv) in _FOLDING and conv.bias is None and type(norm) is nn.BatchNorm2d and norm.affine
                and norm.track_running_stats):
            yield conv, norm  # type: ignore[misc]
