"""Trains on a few images, which any detector learns unless something is wrong, and probes other learning rates."""
from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope
from torch import Tensor

from sparse_rcnn_mm.errors import NotFinite
from sparse_rcnn_mm.evaluation.records import EvaluatedData
from sparse_rcnn_mm.registry import SCOPE

from .images import FewImages
from .measurements import Overfit, Probe
from .precision import ap_of, detect

LEARNED = 0.9  # AP50
_EVERY = 30  # iterations between evaluations
_WARMUP = 10  # iterations; the config's warmup would be longer than this whole training
FACTORS = (0.01, 0.1, 1., 10., 100.)
PROBE = 30  # iterations of a probe
_STUCK = 120  # iterations after which training stops if the loss does not fall
_FALLS = 0.8  # largest ratio of the loss at the end to the loss before the middle that counts as falling
_MEAN = 5  # iterations whose losses are averaged


def train(model: Any, cfg: Config, images: FewImages, factor: float = 1.) -> Iterator[float]:
    """Train on the images without end, with the config's optimizer. Yields the loss of every iteration.

    Raises:
        NotFinite: a loss, a gradient or a prediction is not finite.
    """
    with DefaultScope.overwrite_default_scope(SCOPE):
        wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    wrapper.initialize_count_status(model, 0, 1 << 30)
    rates = [group['lr'] * factor for group in wrapper.optimizer.param_groups]
    model.train()
    for number, batch in enumerate(images.endless(), start=1):
        for group, rate in zip(wrapper.optimizer.param_groups, rates, strict=True):
            group['lr'] = rate * min(number / _WARMUP, 1)
        yield float(model.train_step(batch, optim_wrapper=wrapper)['loss'].detach())


def overfit(model: Any, cfg: Config, images: FewImages, iterations: int, seconds: float,
            say: Callable[[str], None]) -> Overfit:
    """Train until the images are learned, or until a limit is reached."""
    done = Overfit(len(images.chosen), [], [], 0., 'iterations')
    start = time.monotonic()
    weights: dict[str, Tensor] = {}
    sizes = {name: float(weight.detach().norm()) for name, weight in model.named_parameters()}
    try:
        for number, loss in enumerate(train(model, cfg, images), start=1):
            done.losses.append(loss)
            if number >= _WARMUP and done.step is None:
                weights, done.step = _step(model, weights, sizes)
            done.seconds = time.monotonic() - start
            late = done.seconds > seconds
            if late or number % _EVERY == 0 or number == iterations:
                _measure(done, number, detect(model, images), say)
                if done.least >= LEARNED or late or number == iterations or _stuck(done):
                    done.limit = ('learned' if done.least >= LEARNED else 'time' if late else
                                  'iterations' if number == iterations else 'stuck')
                    break
    except NotFinite as error:
        done.limit, done.broken = 'broken', str(error)
    return done


def _measure(done: Overfit, number: int, found: EvaluatedData, say: Callable[[str], None]) -> None:
    done.ap.append((number, *ap_of(found)))
    masks = ''
    if found.has_masks:
        done.mask_ap.append((number, *ap_of(found, masks=True)))
        masks = f', mask AP50 {done.mask_ap[-1][2]:.2f}'
    say(f'  iteration {number}: loss {np.mean(done.losses[-_MEAN:]):.2f}, AP50 {done.ap[-1][2]:.2f}{masks}')


def _step(model: Any, before: Mapping[str, Tensor],
          sizes: Mapping[str, float]) -> tuple[dict[str, Tensor], float | None]:
    """Return the weight matrices, and their change since `before` relative to `sizes`. None if nothing changed."""
    now = {name: weight.detach().clone() for name, weight in model.named_parameters()
           if weight.requires_grad and weight.dim() > 1}
    shares = [float((weight - before[name]).norm()) / sizes[name] for name, weight in now.items()
              if name in before and sizes[name]]
    return now, float(np.median(shares)) if any(shares) else None


def _stuck(done: Overfit) -> bool:
    return len(done.losses) >= _STUCK and done.least < LEARNED / 4 and not falls(done.losses)


def falls(losses: Sequence[float]) -> bool:
    """Whether the last fifth of the losses is well below the fifth before the middle."""
    fifth = max(len(losses) // 5, 1)
    early, late = losses[len(losses) // 2 - fifth:len(losses) // 2], losses[-fifth:]
    return bool(np.mean(late) < _FALLS * np.mean(early)) if early else False


def probe(model: Any, cfg: Config, images: FewImages, start: Mapping[str, Tensor], seconds: float,
          say: Callable[[str], None]) -> list[Probe]:
    """Run short trainings from the weights `start` at several learning rates, or none if time is too short for all.

    The first one, at the config's own rate, shows how long they take. Afterwards the model is reset to `start`.
    """
    probes: list[Probe] = []
    began = time.monotonic()
    for factor in sorted(FACTORS, key=lambda one: abs(np.log(one))):
        model.load_state_dict(start)
        losses: list[float] = []
        try:
            for loss in islice(train(model, cfg, images, factor), PROBE):
                losses.append(loss)
                if time.monotonic() - began > seconds / len(FACTORS) * (len(probes) + 1) * 2:
                    model.load_state_dict(start)
                    return []
            last = float(np.mean(losses[-_MEAN:]))
        except NotFinite:
            last = float('nan')
        probes.append(Probe(factor, float(np.mean(losses[:_MEAN])) if losses else float('nan'), last))
        say(f'  learning rate x {factor:g}: loss {probes[-1].first:.2f} to {last:.2f} in {PROBE} iterations')
    model.load_state_dict(start)
    return sorted(probes, key=lambda one: one.factor)
