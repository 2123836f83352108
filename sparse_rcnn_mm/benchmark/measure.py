"""One measurement of prediction or training, alone or compared with mmdet's detector."""
from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from mmdet.structures import SampleList
from mmengine.config import Config
from mmengine.registry import DefaultScope
from torch import Tensor, nn

from sparse_rcnn_mm.acceleration.memory import keep_memory
from sparse_rcnn_mm.acceleration.prediction import PRECISIONS, fast_form
from sparse_rcnn_mm.acceleration.training import fast_training
from sparse_rcnn_mm.benchmark import machine
from sparse_rcnn_mm.models.queryinst import QueryInst

from .apart import Apart
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
    """A callable that predicts one batch.

    Args:
        model, batch, data, work: the detector, images, data samples, and what to run.
        scope: 'sparse_rcnn_mm' or 'mmdet'.
        precision: of autocast. The fast form has its own.
    """

    def __init__(self, model: nn.Module, batch: Tensor, data: SampleList, work: Workload, scope: str = 'sparse_rcnn_mm',
                 precision: str = 'fp32') -> None:
        self.model, self.batch, self.data, self.work, self.scope = model, batch, data, work, scope
        self.precision = precision

    def __call__(self) -> Any:
        """Predict, and return the data samples."""
        with self.context(), torch.no_grad():
            return self.model.predict(self.batch, self.data)

    @contextmanager
    def context(self) -> Iterator[None]:
        """The scope of the registries, and autocast."""
        autocast = torch.autocast(self.work.device, PRECISIONS[self.precision], enabled=self.precision != 'fp32')
        with DefaultScope.overwrite_default_scope(self.scope), autocast:
            yield

    def seconds(self) -> float:
        """Seconds of one call."""
        return Clock(self.work.device, self.work.cpu_time).seconds(self)

    def memory(self) -> float | None:
        """Peak memory of one call in MiB."""
        return peak_memory(self, self.work.device)

    @torch.no_grad()
    def results(self) -> dict[str, Tensor]:
        """Logits and boxes of the last stage, and masks (M, H, W), best first in each image, if there are any."""
        with self.context():
            if self.scope == 'mmdet':
                logits, boxes = last_stage(self.model, self.batch, self.data)
            else:
                stage = self.model.run_stages(self.batch, self.data)[1][-1]
                logits, boxes = stage.logits.float(), stage.boxes
        results = {'logits': logits.cpu(), 'boxes': boxes.cpu()}
        if 'masks' in self.data[0].gt_instances:
            found = [sample.pred_instances for sample in self()]
            results['masks'] = torch.cat([torch.as_tensor(one.masks)[one.scores.argsort(descending=True).cpu()]
                                          for one in found]).cpu()
        return results


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
        with keep_memory(self.model) if self.scope == 'sparse_rcnn_mm' else nullcontext():
            self.optimizer.zero_grad()
            with self.context():
                self.losses = self.model.loss(self.batch, copy.deepcopy(self.data))
            sum(loss for name, loss in self.losses.items() if 'loss' in name).backward()
            self.optimizer.step()

    def results(self) -> dict[str, Tensor]:
        """Losses and gradients of the last call."""
        return {**{f'loss {name}': loss.detach().cpu() for name, loss in self.losses.items()},
                **{name: value.grad.cpu() for name, value in self.model.named_parameters() if value.grad is not None}}


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
        ours = TrainStep(fast_training(model), batch, data, work, precision=work.precision)
    else:
        fast = fast_form(model, work.precision, work.compile)
        ours, model = Predict(fast, batch, data, work), fast.module
    runs, theirs = {'ours': ours.seconds}, None
    if work.against:
        twin = build_twin(cfg, state).to(work.device)
        theirs = Apart((TrainStep if work.train else Predict)(twin, batch, data, work, 'mmdet', work.against_precision))
        runs['theirs'] = theirs.seconds
    seconds = alternate(runs, work.repeats)
    result.seconds = Spread.of(seconds['ours'])
    result.memory = ours.memory()
    if not work.compile:
        result.flops = flops_by_part(model, _forward_only(ours) if work.train else ours)
        result.part_seconds = seconds_by_part(model, ours, clock)
    if theirs:
        result.against_seconds = Spread.of(seconds['theirs'])
        result.against_memory = theirs.memory()
        result.ratio = ratio(seconds, 'theirs', 'ours')
        differences = training_differences if work.train else output_differences
        result.differences = differences(ours.results(), theirs.results())
    return result


def _forward_only(step: Predict) -> Callable[[], object]:
    """A callable that runs only the forward pass of a training step."""
    def run() -> None:
        with step.context():
            step.model.loss(step.batch, step.data)
    return run


def output_differences(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> dict[str, float]:
    """Largest differences of the last stage: logits, and boxes relative to the largest coordinate.

    With masks, also the share of their pixels that differ, with the detections of both in the order of their scores.

    Args:
        ours, theirs: `Predict.results` of the same batch.
    """
    boxes = theirs['boxes']
    differences = {'logits': float((ours['logits'] - theirs['logits']).abs().max()),
                   'boxes, relative': float((ours['boxes'] - boxes).abs().max() / boxes.abs().max())}
    if 'masks' in ours:
        differences['mask pixels, share'] = float((ours['masks'] != theirs['masks']).float().mean())
    return differences


def training_differences(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> dict[str, float]:
    """Differences of losses and gradients after the same step.

    Args:
        ours, theirs: `TrainStep.results`.

    Returns:
        'losses, relative': the largest relative difference of any loss.
        'gradients / peak': the largest difference of any entry of a gradient, relative to the peak of that gradient.
        'gradients, relative length': the norm of the difference of all gradients, relative to their norm.
    """
    losses = [float((value - theirs[name]).abs() / theirs[name].abs().clamp(min=1e-6))
              for name, value in ours.items() if name.startswith('loss ')]
    pairs = [(value, theirs[name]) for name, value in ours.items() if name in theirs and not name.startswith('loss ')]
    peaks = [float((a - b).abs().max() / b.abs().max()) for a, b in pairs if float(b.abs().max()) > 1e-7]
    length, of_difference = (math.hypot(*(float(x.norm()) for x in xs)) for xs in (
        [b for _, b in pairs], [a - b for a, b in pairs]))
    return {'losses, relative': max(losses), 'gradients / peak': max(peaks),
            'gradients, relative length': of_difference / length}
