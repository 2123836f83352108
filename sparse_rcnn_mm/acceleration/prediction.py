"""The fast form of a trained detector: the same detections, for prediction only."""
from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from sparse_rcnn_mm.models import DIIHead, DynamicConv, EmbeddingRPNHead, SparseRCNN, SparseRoIHead
from sparse_rcnn_mm.ops.convolutions import use_conv3x3

PRECISIONS = {'fp32': torch.float32, 'bf16': torch.bfloat16, 'fp16': torch.float16}


@torch.no_grad()
def fast_form(model: SparseRCNN, precision: str = 'fp32', compile: bool = False) -> SparseRCNN:
    """A copy of `model` for prediction, which leaves `model` untouched and shares nothing with it.

    Batch norms are folded into the convolutions, convolutions are channels-last and on the CPU those of 3x3 take fewer
    multiplications, the class towers of all stages but the last are gone, and what the first stage makes of the learned
    queries alone is made once. The detections are those of `model` to float32 rounding. Parts of another kind (a stage
    that is run twice, a class of your own) stay as they are. `tensor` mode still returns every stage, whose logits have
    no classes where their tower is gone.

    Args:
        precision: 'fp32', or 'bf16' or 'fp16' for convolutions and matrix products; boxes and scores stay float32.
        compile: compile backbone, neck and stages (torch.compile); the first images of a size take minutes.

    Raises:
        ValueError: `precision` is none of these.
    """
    if precision not in PRECISIONS:
        raise ValueError(f'precision must be one of {sorted(PRECISIONS)}, not {precision!r}')
    fast = copy.deepcopy(model).eval().requires_grad_(False)
    fast.backbone, fast.neck = fold_batch_norms([fast.backbone, fast.neck])
    if type(fast.roi_head) is SparseRoIHead:
        drop_class_towers(fast.roi_head)
        if type(fast.rpn_head) is EmbeddingRPNHead:
            remember_first_queries(fast.roi_head, fast.rpn_head.init_proposal_features.weight)
    use_conv3x3(fast)
    fast = fast.to(memory_format=torch.channels_last)
    dtype = PRECISIONS[precision]
    if dtype != torch.float32:
        _reduce_precision(fast, dtype)
    if compile:
        from torch._inductor import config  # takes seconds

        for part in (fast.backbone, fast.neck, fast.roi_head):
            part.compile()
        # Weights become constants that are stored as the kernels want them; as an option of `compile` it does nothing.
        fast.run_stages = config.patch(freezing=True)(fast.run_stages)  # type: ignore[method-assign]
    fast.run_stages = torch.no_grad()(fast.run_stages)  # type: ignore[method-assign]
    return fast


@torch.no_grad()
def fold_batch_norms(chain: Sequence[nn.Module]) -> list[nn.Module]:
    """Copies of networks that feed each other, the first with an image, their batch norms folded into convolutions.

    A convolution is taken to feed the batch norm that is registered right after it. Whether that holds is tried on a
    small image; a network for which it does not is returned as it is.
    """
    parameter = next(chain[0].parameters())
    x = torch.rand(1, 3, 128, 128, device=parameter.device, dtype=parameter.dtype)
    result = []
    for net in chain:
        folded = copy.deepcopy(net)
        _fold(folded)
        wanted = net(x)
        exact = all(torch.allclose(a, b, rtol=1e-3, atol=1e-4 * float(b.abs().max()))
                    for a, b in zip(folded(x), wanted, strict=True))
        result.append(folded if exact else net)
        x = wanted
    return result


def _fold(net: nn.Module) -> None:
    """Fold every batch norm of `net` into the convolution before it, in place."""
    before, before_name = None, ''
    for name, child in list(net.named_children()):
        statistics = isinstance(child, nn.modules.batchnorm._BatchNorm) and child.running_mean is not None
        if statistics and isinstance(before, nn.Conv2d):
            setattr(net, before_name, fuse_conv_bn_eval(before, child))
            setattr(net, name, nn.Identity())
        _fold(child)
        before, before_name = child, name


class _NoLogits(nn.Module):
    """Stands for a classifier whose result nobody sees."""

    def forward(self, x: Tensor) -> Tensor:
        return x[..., :0]


def drop_class_towers(roi_head: SparseRoIHead) -> None:
    """Only the last stage's classes become detections."""
    for index in set(roi_head.order) - {roi_head.order[-1]}:
        stage = roi_head.bbox_head[index]
        if type(stage) is DIIHead:
            stage.cls_fcs, stage.fc_cls = nn.ModuleList(), _NoLogits()


class _NoAttention(nn.Module):
    """Stands for an attention whose result is known."""

    def forward(self, query: Tensor, key: Tensor, value: Tensor, need_weights: bool) -> tuple[Tensor, None]:
        return query, None


class _Remembered(nn.Module):
    """Gives the same (N, C) for every image, whatever comes in."""

    def __init__(self, value: Tensor) -> None:
        super().__init__()
        self.register_buffer('value', value)

    def forward(self, x: Tensor) -> Tensor:
        return self.value.to(x.dtype).expand_as(x)


class _FirstDynamicConv(nn.Module):
    """A `DynamicConv` of the same N queries for every image."""

    def __init__(self, conv: DynamicConv, queries: Tensor) -> None:
        super().__init__()
        kernel_in, kernel_out = conv.kernels(queries)
        self.register_buffer('kernel_in', kernel_in)
        self.register_buffer('kernel_out', kernel_out)
        self.conv = conv
        self.conv.dynamic_layer = nn.Identity()

    def forward(self, queries: Tensor, roi_feats: Tensor) -> Tensor:
        batch = len(queries) // len(self.kernel_in)
        kernels = [kernel if batch == 1 else kernel.repeat(batch, 1, 1) for kernel in (self.kernel_in, self.kernel_out)]
        return self.conv.convolve(roi_feats, *kernels)


def remember_first_queries(roi_head: SparseRoIHead, queries: Tensor) -> None:
    """The first stage's attention among the learned `queries` (N, C), and the kernels from it, are always the same."""
    stage = roi_head.bbox_head[roi_head.order[0]]
    if roi_head.order.count(roi_head.order[0]) > 1 or type(stage) is not DIIHead:
        return
    if type(stage.instance_interactive_conv) is not DynamicConv:
        return
    attended = stage.attend(queries[None])[0]
    stage.instance_interactive_conv = _FirstDynamicConv(stage.instance_interactive_conv, attended)
    stage.attention['attn'], stage.attention_norm = _NoAttention(), _Remembered(attended)


def _reduce_precision(fast: SparseRCNN, dtype: torch.dtype) -> None:
    """Let convolutions and matrix products run in `dtype`; their weights are stored so, or autocast would convert
    them for every image."""
    for module in fast.modules():
        if isinstance(module, (nn.modules.conv._ConvNd, nn.Linear, nn.MultiheadAttention, _FirstDynamicConv)):
            module.to(dtype)
    device = next(fast.parameters()).device.type
    fast.run_stages = torch.autocast(device, dtype)(fast.run_stages)  # type: ignore[method-assign]
