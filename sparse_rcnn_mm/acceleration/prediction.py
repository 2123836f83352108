"""The fast form of a trained detector: the same detections, for prediction only."""
from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from sparse_rcnn_mm.errors import UserError
from sparse_rcnn_mm.models import DIIHead, DynamicConv, SparseRCNN, SparseRoIHead
from sparse_rcnn_mm.ops.convolutions import use_fast_conv2d
from sparse_rcnn_mm.registry import MODEL_WRAPPERS

from .memory import keep_memory

PRECISIONS = {'fp32': torch.float32, 'bf16': torch.bfloat16, 'fp16': torch.float16}


def _inside(name: str) -> Callable[..., Any]:
    def method(self: FastForm, *args: Any, **kwargs: Any) -> Any:
        with self.settings():
            return getattr(self.module, name)(*args, **kwargs)

    method.__name__ = name
    return method


@MODEL_WRAPPERS.register_module()
class FastForm(nn.Module):
    """A detector for prediction, used in place of the original model.

    Args:
        module: the detector, changed by `fast_form`.
        dtype: the type that autocast uses for convolutions and matrix products.
        frozen: whether compiled kernels treat the weights as constants.
    """

    def __init__(self, module: SparseRCNN, dtype: torch.dtype = torch.float32, frozen: bool = False) -> None:
        super().__init__()
        self.module = module
        self.dtype, self.frozen = dtype, frozen

    @property
    def data_preprocessor(self) -> nn.Module:
        """The data preprocessor of the detector."""
        return self.module.data_preprocessor

    @property
    def postprocessor(self) -> nn.Module:
        """That of the detector."""
        return self.module.postprocessor

    @contextmanager
    def settings(self) -> Iterator[None]:
        """The context in which the detector must run: inference settings, autocast, compiler options and memory."""
        device = next(self.module.parameters()).device.type
        autocast = torch.autocast(device, self.dtype, enabled=self.dtype != torch.float32)
        with torch.no_grad(), autocast, self._freezing(), keep_memory(self.module):
            yield

    def _freezing(self) -> Any:
        if not self.frozen:
            return nullcontext()
        from torch._inductor import config  # a slow import

        return config.patch(freezing=True)  # has no effect as an option of `compile`

    forward, predict, detect, refine, run_stages, test_step, val_step = map(_inside, (
        'forward', 'predict', 'detect', 'refine', 'run_stages', 'test_step', 'val_step'))


def fast_form(model: SparseRCNN, precision: str = 'fp32', compile: bool = False) -> FastForm:
    """`fast_prediction` of a copy that shares nothing with `model`, which is not changed."""
    return fast_prediction(copy.deepcopy(model), precision, compile)


@torch.no_grad()
def fast_prediction(model: SparseRCNN, precision: str = 'fp32', compile: bool = False) -> FastForm:
    """Change `model` to its fast form for prediction. Only the returned form can be used afterwards.

    Batch norms are folded into the convolutions. Convolutions are channels-last, and on the CPU, 3x3 convolutions need
    fewer multiplications. Class towers are removed in all stages except the last. Everything in the first stage that
    depends only on fixed queries is computed once. The detections equal those of `model` up to float32 rounding.

    Each change is tried on a small random image and kept only if the outputs stay the same. A stage of another class
    can provide its own fast form: `stage.for_prediction(classify, queries)` returns the module that replaces it.
    `classify` says whether its logits are needed; `queries` (N, C) are the queries that it always gets, or None.

    In `tensor` mode all stages are returned, but the logits of stages without a class tower have no classes.

    Args:
        model: the trained detector.
        precision: 'fp32', or 'bf16' or 'fp16' for convolutions and matrix products. Boxes and scores stay float32.
        compile: compile backbone, neck and stages with torch.compile. The first images of each size take minutes.

    Raises:
        UserError: `precision` is unknown.
    """
    if precision not in PRECISIONS:
        raise UserError(f'precision must be one of {sorted(PRECISIONS)}, not {precision!r}')
    fast = model.eval().requires_grad_(False)
    parameter = next(fast.parameters())
    image = torch.rand(1, 3, 128, 128, device=parameter.device, dtype=parameter.dtype)
    fast.backbone, fast.neck = fold_batch_norms([fast.backbone, fast.neck], image)
    if isinstance(fast.roi_head, SparseRoIHead):
        fast.roi_head = fast_roi_head(fast, image)
    use_fast_conv2d(fast, kernel_sizes=(3,))
    fast = fast.to(memory_format=torch.channels_last)
    dtype = PRECISIONS[precision]
    if dtype != torch.float32:
        _reduce_precision(fast, dtype)
    if compile:
        for part in (fast.backbone, fast.neck, fast.roi_head):
            part.compile()
    return FastForm(fast, dtype, frozen=compile).eval()


def same_outputs(results: Sequence[Tensor], wanted: Sequence[Tensor]) -> bool:
    """Whether tensors are finite, and equal up to a thousandth of their largest value."""
    return all(a.shape == b.shape and bool(((a - b).abs().max() <= 1e-3 * b.abs().max()).item())
               for a, b in zip(results, wanted, strict=True))


@torch.no_grad()
def fold_batch_norms(chain: Sequence[nn.Module], image: Tensor) -> list[nn.Module]:
    """Copy a chain of networks, with batch norms folded into convolutions. The copies share all other tensors.

    This assumes that a convolution feeds the batch norm that is registered right after it. The result is tested; a
    network for which this does not hold is returned unchanged.

    Args:
        chain: networks of which each takes the output of the one before.
        image: (1, 3, H, W), the input of the first one.
    """
    result, x = [], image
    for net in chain:
        folded = _with_same_tensors(net)
        _fold(folded)
        wanted = net(x)
        result.append(folded if same_outputs(folded(x), wanted) else net)
        x = wanted
    return result


def _with_same_tensors(net: nn.Module) -> Any:
    """Copy the modules of `net`, but neither parameters nor buffers."""
    return copy.deepcopy(net, {id(tensor): tensor for tensor in (*net.parameters(), *net.buffers())})


def _fold(net: nn.Module) -> None:
    """Fold every batch norm of `net` into the convolution before it, in place."""
    for parent, (name, conv), (norm_name, norm) in list(neighbors(net)):
        statistics = isinstance(norm, nn.modules.batchnorm._BatchNorm) and norm.running_mean is not None
        if statistics and isinstance(conv, nn.Conv2d):
            setattr(parent, name, fuse_conv_bn_eval(conv, norm))
            setattr(parent, norm_name, nn.Identity())


def neighbors(net: nn.Module) -> Iterator[tuple[nn.Module, tuple[str, nn.Module], tuple[str, nn.Module]]]:
    """Each module and two of its children that are registered one after the other, with their names."""
    for parent in net.modules():
        for one, other in itertools.pairwise(parent.named_children()):
            yield parent, one, other


def fast_roi_head(model: SparseRCNN, image: Tensor) -> nn.Module:
    """Return a copy of the RoI head with the fast forms of its stages, or the head itself if the results differ.

    The copy shares its tensors with the head.
    """
    head = model.roi_head
    fast = _with_same_tensors(head)
    queries = getattr(model.rpn_head, 'fixed_queries', None)
    first, last = head.order[0], head.order[-1]
    fast.bbox_head = nn.ModuleList(
        fast_stage(stage, index == last, queries if index == first and head.order.count(first) == 1 else None)
        for index, stage in enumerate(fast.bbox_head))
    feats = model.extract_feat(image)
    proposals = model.rpn_head(feats, image.new_tensor([[[image.shape[3], image.shape[2]] * 2]]))
    ours, wanted = fast(feats, proposals)[-1], head(feats, proposals)[-1]
    return fast if same_outputs([ours.logits, ours.boxes], [wanted.logits, wanted.boxes]) else head


def fast_stage(stage: nn.Module, classify: bool, queries: Tensor | None) -> nn.Module:
    """Change a stage in place for prediction (see `fast_prediction`), but not its tensors, and return it.

    A stage that changes itself gets tensors of its own.
    """
    if hasattr(stage, 'for_prediction'):
        return copy.deepcopy(stage).for_prediction(classify, queries)
    if not isinstance(stage, DIIHead):
        return stage
    if not classify:
        stage.cls_fcs, stage.fc_cls = nn.ModuleList(), _NoLogits()
    if queries is not None and isinstance(stage.instance_interactive_conv, DynamicConv):
        attended = stage.attend(queries[None])[0]
        _remember_kernels(stage.instance_interactive_conv, attended)
        stage.attention['attn'], stage.attention_norm = _NoAttention(), _Remembered(attended)
    return stage


class _NoLogits(nn.Module):
    """Placeholder for an unused classifier."""

    def forward(self, x: Tensor) -> Tensor:
        return x[..., :0]


class _NoAttention(nn.Module):
    """Placeholder for an attention whose result was precomputed."""

    def forward(self, query: Tensor, key: Tensor, value: Tensor, need_weights: bool) -> tuple[Tensor, None]:
        return query, None


class _Remembered(nn.Module):
    """Returns the same precomputed (N, C) for every image."""

    def __init__(self, value: Tensor) -> None:
        super().__init__()
        self.register_buffer('value', value)

    def forward(self, x: Tensor) -> Tensor:
        return self.value.to(x.dtype).expand_as(x)


class _FirstDynamicConv(DynamicConv):
    """A dynamic convolution whose N queries are the same for every image."""
    kernel_in: Tensor
    kernel_out: Tensor

    def kernels(self, queries: Tensor) -> tuple[Tensor, Tensor]:
        batch = len(queries) // len(self.kernel_in)
        kernel_in, kernel_out = (kernel if batch == 1 else kernel.repeat(batch, 1, 1)
                                 for kernel in (self.kernel_in, self.kernel_out))
        return kernel_in, kernel_out


def _remember_kernels(conv: DynamicConv, queries: Tensor) -> None:
    """Change `conv` in place to a `_FirstDynamicConv` with the queries (N, C)."""
    for name, kernel in zip(('kernel_in', 'kernel_out'), conv.kernels(queries), strict=True):
        conv.register_buffer(name, kernel)
    del conv.dynamic_layer
    conv.__class__ = _FirstDynamicConv


def _reduce_precision(fast: SparseRCNN, dtype: torch.dtype) -> None:
    """Store the weights of convolutions and matrix products in `dtype`. Otherwise autocast converts them every time."""
    for module in fast.modules():
        if isinstance(module, (nn.modules.conv._ConvNd, nn.Linear, nn.MultiheadAttention, _FirstDynamicConv)):
            module.to(dtype)
