"""One measurement of prediction or training, alone or compared with mmdet's detector."""
from __future__ import annotations

import copy
import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from mmdet.structures import SampleList
from mmengine.config import Config
from mmengine.registry import DefaultScope
from torch import Tensor, nn

from sparse_rcnn_mm.acceleration.prediction import PRECISIONS, fast_form
from sparse_rcnn_mm.acceleration.training import fast_training
from sparse_rcnn_mm.benchmark import machine
from sparse_rcnn_mm.models.queryinst import QueryInst

from .mmdet_twin import build_twin, last_stage
from .parts import flops_by_part, seconds_by_part
from .timing import Clock, Spread, alternate, peak_memory, ratio
from .workload import add_masks, build_model, images, samples


@dataclass(frozen=True)
class Workload:
    """What to run. `size` is (height, width). `against` is 'mmdet' or None, and runs in `against_precision`."""
    size: tuple[int, int] = (800, 1216)
    batch: int = 1
    precision: str = 'fp32'
    compile: bool = False
    train: bool = False
    against: str | None = None
    against_precision: str = 'fp32'
    num_gts: int = 7
    repeats: int = 5
    device: str = 'cpu'
    cpu_time: bool = False


@dataclass
class Result:
    """What was measured. Seconds are per batch. Memory is in MiB beyond what the idle model holds."""
    workload: Workload
    machine: str
    seconds: Spread
    parameters: int
    peak_gflops: float
    memory: float | None = None
    flops: dict[str, int] = field(default_factory=dict)
    part_seconds: dict[str, float] = field(default_factory=dict)
    against_seconds: Spread | None = None
    against_memory: float | None = None
    ratio: Spread | None = None
    differences: dict[str, float] = field(default_factory=dict)

    @property
    def images_per_second(self) -> float:
        """Images per second, from the median time of a batch."""
        return self.workload.batch / self.seconds.median

    @property
    def gflops(self) -> float:
        """Achieved GFLOP/s. A backward pass counts as two forward passes."""
        return (3 if self.workload.train else 1) * sum(self.flops.values()) / self.seconds.median / 1e9


class Predict:
    """A callable that predicts one batch."""

    def __init__(self, model: nn.Module, batch: Tensor, data: SampleList, scope: str = 'sparse_rcnn_mm',
                 context: AbstractContextManager | None = None) -> None:
        self.model, self.batch, self.data, self.scope, self.context = model, batch, data, scope, context

    @torch.no_grad()
    def __call__(self) -> Any:
        """Predict, and return the data samples."""
        with DefaultScope.overwrite_default_scope(self.scope), self.context or nullcontext():
            return self.model.predict(self.batch, self.data)


class TrainStep(Predict):
    """A callable that runs one training step. The learning rate is 0, so that every call does the same work."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.model.train()
        parameters = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.AdamW(parameters, lr=0., fused=True if self.scope == 'sparse_rcnn_mm' else None)
        self.losses: dict[str, Tensor] = {}

    @torch.enable_grad()
    def __call__(self) -> None:
        """Forward, backward and optimizer step. `losses` then holds the losses, and the gradients are kept."""
        self.optimizer.zero_grad()
        with DefaultScope.overwrite_default_scope(self.scope), self.context or nullcontext():
            self.losses = self.model.loss(self.batch, copy.deepcopy(self.data))
        sum(loss for name, loss in self.losses.items() if 'loss' in name).backward()
        self.optimizer.step()


def _autocast(precision: str, device: str) -> AbstractContextManager | None:
    return None if precision == 'fp32' else torch.autocast(device, PRECISIONS[precision])


def measure(cfg: Config, work: Workload, state: dict[str, Tensor] | None = None) -> Result:
    """Measure the model of `cfg` with the weights `state`, or with random ones."""
    clock = Clock(work.device, work.cpu_time)
    model = build_model(cfg, state)
    state = model.state_dict()
    torch.manual_seed(1)
    batch = images(work.batch, *work.size).to(work.device)
    data = samples(work.batch, *work.size, work.num_gts, model.roi_head.num_classes)
    if isinstance(model, QueryInst):
        add_masks(data)
    data = [sample.to(work.device) for sample in data]
    model = model.to(work.device)
    result = Result(work, machine.name(work.device), Spread(0, 0, 0), sum(p.numel() for p in model.parameters()),
                    machine.peak_gflops(work.device, PRECISIONS[work.precision], clock))
    ours: Predict
    if work.train:
        ours = TrainStep(fast_training(model), batch, data, context=_autocast(work.precision, work.device))
    else:
        fast = fast_form(model, work.precision, work.compile)
        ours, model = Predict(fast, batch, data), fast.module
    runs: dict[str, Callable[[], object]] = {'ours': ours}
    if work.against:
        runs[work.against] = _twin_run(cfg, state, batch, data, work)
    seconds = alternate(runs, work.repeats, clock)
    result.seconds = Spread.of(seconds['ours'])
    result.memory = peak_memory(ours, work.device)
    if not work.compile:
        result.flops = flops_by_part(model, _forward_only(ours) if work.train else ours)
        result.part_seconds = seconds_by_part(model, ours, clock)
    if work.against:
        theirs = runs[work.against]
        assert isinstance(theirs, Predict)
        result.against_seconds = Spread.of(seconds[work.against])
        result.against_memory = peak_memory(theirs, work.device)
        result.ratio = ratio(seconds, work.against, 'ours')
        result.differences = training_differences(ours, theirs) if work.train else output_differences(ours, theirs)
    return result


def _forward_only(step: Predict) -> Callable[[], object]:
    """A callable that runs only the forward pass of a training step."""
    def run() -> None:
        with step.context or nullcontext():
            step.model.loss(step.batch, step.data)
    return run


def _twin_run(cfg: Config, state: dict[str, Tensor], batch: Tensor, data: SampleList, work: Workload) -> Predict:
    twin = build_twin(cfg, state).to(work.device)
    kind = TrainStep if work.train else Predict
    return kind(twin, batch, data, 'mmdet', _autocast(work.against_precision, work.device))


@torch.no_grad()
def output_differences(ours: Predict, theirs: Predict) -> dict[str, float]:
    """Largest differences of the last stage: logits, and boxes relative to the largest coordinate.

    With masks, also the share of their pixels that differ, with the detections of both in the order of their scores.
    """
    stage = ours.model.run_stages(ours.batch, ours.data)[1][-1]
    with DefaultScope.overwrite_default_scope('mmdet'), theirs.context or nullcontext():
        logits, boxes = last_stage(theirs.model, theirs.batch, theirs.data)
    differences = {'logits': float((stage.logits.float() - logits.float()).abs().max()),
                   'boxes, relative': float((stage.boxes - boxes).abs().max() / boxes.abs().max())}
    if isinstance(ours.model.module, QueryInst):
        differences['mask pixels, share'] = float((_masks(ours) != _masks(theirs)).float().mean())
    return differences


def _masks(predict: Predict) -> Tensor:
    """Masks (M, H, W) of a batch of equal images, best first in each."""
    found = [sample.pred_instances for sample in predict()]
    return torch.cat([torch.as_tensor(one.masks)[one.scores.argsort(descending=True).cpu()] for one in found])


def training_differences(ours: TrainStep | Predict, theirs: TrainStep | Predict) -> dict[str, float]:
    """Differences of losses and gradients after the same step.

    Returns:
        'losses, relative': the largest relative difference of any loss.
        'gradients / peak': the largest difference of any entry of a gradient, relative to the peak of that gradient.
        'gradients, relative length': the norm of the difference of all gradients, relative to their norm.
    """
    assert isinstance(ours, TrainStep) and isinstance(theirs, TrainStep)
    their_losses = {name: loss.detach() for name, loss in theirs.losses.items()}
    losses = [float((loss.detach() - their_losses[name]).abs() / their_losses[name].abs().clamp(min=1e-6))
              for name, loss in ours.losses.items()]
    wanted = {name: p.grad for name, p in theirs.model.named_parameters() if p.grad is not None}
    pairs = [(p.grad, wanted[name]) for name, p in ours.model.named_parameters()
             if name in wanted and p.grad is not None]
    peaks = [float((a - b).abs().max() / b.abs().max()) for a, b in pairs if float(b.abs().max()) > 1e-7]
    length, of_difference = (math.hypot(*(float(x.norm()) for x in xs)) for xs in (
        [b for _, b in pairs], [a - b for a, b in pairs]))
    return {'losses, relative': max(losses), 'gradients / peak': max(peaks),
            'gradients, relative length': of_difference / length}
