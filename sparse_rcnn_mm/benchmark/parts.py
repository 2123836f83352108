"""The cost of each part of the detector, in seconds or in operations."""
from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from sparse_rcnn_mm.models import SparseRoIHead

Counter = Callable[[], float]


def parts_of(model: nn.Module) -> dict[str, nn.Module]:
    """The measured modules by the name of their part. Tied stages are one part.

    A RoI head of another kind than `SparseRoIHead` is one part as a whole.
    """
    parts: dict[str, Any] = {'backbone': model.backbone, 'neck': model.neck, 'proposals': model.rpn_head}
    if isinstance(model.roi_head, SparseRoIHead):
        parts['flattening'] = model.roi_head.roi_extractor
        parts |= {f'stage {index + 1}': stage for index, stage in enumerate(model.roi_head.bbox_head)}
    else:
        parts['stages'] = model.roi_head
    return {**parts, 'matching and losses': model.criterion}


@contextmanager
def counting(model: nn.Module, counter: Counter) -> Iterator[dict[str, float]]:
    """Add up what `counter` counts during the forward pass of each part of `model`, by part."""
    totals: dict[str, float] = {}
    starts: dict[str, float] = {}
    handles = []

    def start(name: str) -> Callable[..., None]:
        def hook(*_: Any) -> None:
            starts[name] = counter()
        return hook

    def stop(name: str) -> Callable[..., None]:
        def hook(*_: Any) -> None:
            totals[name] = totals.get(name, 0.) + counter() - starts[name]
        return hook

    for name, module in parts_of(model).items():
        handles += [module.register_forward_pre_hook(start(name)), module.register_forward_hook(stop(name))]
    try:
        yield totals
    finally:
        for handle in handles:
            handle.remove()


def flops_by_part(model: nn.Module, run: Callable[[], object]) -> dict[str, int]:
    """Floating-point operations of all convolutions and matrix products while `run` runs `model`, by part.

    A multiply-add counts as two. The weighted gather of RoI features is not counted: it takes 32 C P*P operations per
    RoI, about a thousandth of a stage.
    """
    own = (torch.ops.sparse_rcnn_mm.conv2d, torch.ops.sparse_rcnn_mm.onednn_linear)
    mode = FlopCounterMode(display=False, custom_mapping=dict.fromkeys(own, _layer_flops))
    fused_attention = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # the counter cannot see inside fused kernels
    try:
        with sdpa_kernel(SDPBackend.MATH), mode, counting(model, mode.get_total_flops) as totals:
            run()
    finally:
        torch.backends.mha.set_fastpath_enabled(fused_attention)
    flops = {name: int(value) for name, value in totals.items() if value}
    return {**flops, 'rest': mode.get_total_flops() - sum(flops.values())}


def _layer_flops(x: Sequence[int], weight: Sequence[int], *_: Any, out_shape: Sequence[int], **__: Any) -> int:
    """Operations of a linear layer or a direct convolution, from shapes."""
    return 2 * math.prod(weight) * math.prod((out_shape[0], *out_shape[2:]))


def seconds_by_part(model: nn.Module, run: Callable[[], object], clock: Counter) -> dict[str, float]:
    """Seconds of one `run` by part."""
    with counting(model, clock) as totals:
        start = clock()
        run()
        total = clock() - start
    return {**totals, 'rest': total - sum(totals.values())}
