"""Draws the curves of a training to a picture beside its logs."""
from __future__ import annotations

import json
import os
import re
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner

from sparse_rcnn_mm.registry import HOOKS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_LARGEST = 1e12  # of numbers in logs; matplotlib fails on larger ones
_LOSS = re.compile(r'(?P<of>.+\.)(?P<kind>loss\w*)')
_AP_NAMES = {'mAP': 'AP', 'mAP_50': 'AP50', 'mAP_75': 'AP75'}
_LOSS_NAMES = {'loss_cls': 'classification loss', 'loss_bbox': 'L1 loss', 'loss_iou': 'GIoU loss'}


@dataclass
class History:
    """The logged numbers of a training, over all its runs.

    Attributes:
        train: iteration -> logged numbers.
        val: iteration -> validation metrics.
        unreadable: the number of unreadable lines. An interrupted run may leave one.
    """
    train: dict[int, dict[str, float]] = field(default_factory=dict)
    val: dict[int, dict[str, float]] = field(default_factory=dict)
    unreadable: int = 0

    def series(self, key: str) -> tuple[list[int], list[float]]:
        """Iterations and values of one number logged in training."""
        points = [(step, row[key]) for step, row in sorted(self.train.items()) if key in row]
        return [step for step, _ in points], [value for _, value in points]

    def metric(self, name: str) -> tuple[list[int], list[float]]:
        """Iterations and values of a metric, with any prefix. -1, COCO's value for "undefined", is left out."""
        points = [(step, value) for step, row in sorted(self.val.items())
                  for key, value in row.items() if re.search(rf'(^|[/_]){name}$', key) and value >= 0]
        return [step for step, _ in points], [value for _, value in points]


def read_history(work_dir: str | Path) -> History:
    """Read the logs of all runs in a work dir. A resumed run replaces what was logged after its first iteration."""
    history = History()
    for log in sorted(Path(work_dir).glob('*/vis_data/scalars.json')):
        _add_run(history, log)
    return history


def _add_run(history: History, log: Path) -> None:
    last = None
    for line in log.read_text(encoding='utf-8', errors='replace').splitlines():
        try:
            row = {key: float(value) for key, value in json.loads(line).items() if isinstance(value, (int, float))}
            step = int(row['step'])
            if not 0 <= step <= _LARGEST or any(abs(value) > _LARGEST for value in row.values()):
                raise ValueError('nothing that can be drawn')
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
            history.unreadable += 1
            continue
        if 'loss' in row:
            if last is None:
                for rows in (history.train, history.val):
                    for later in [known for known in rows if known >= step]:
                        del rows[later]
            last = step
            history.train[step] = row
        elif last is not None:
            # mmengine may count validations in epochs, which stay 0 in training by iterations
            history.val[max(step, last)] = row
        elif step in history.train:  # a resumed run may start with a pending validation; else it is a test
            history.val[step] = row


def draw_curves(history: History) -> Figure:
    """Draw six plots over iterations: each kind of loss by stage, their sum, AP and learning rate."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 7), layout='constrained')
    kinds = _losses_by_kind(history)
    columns = max(3, len(kinds))
    axes = figure.subplots(2, columns, squeeze=False)
    for axis, (kind, parts) in zip(axes[0], kinds.items(), strict=False):
        _plot_losses(axis, history, kind, parts)
    _plot(axes[1, 0], 'loss, sum of all',
          {'training': history.series('loss'), 'validation': history.metric('val_loss')})
    _plot(axes[1, 1], 'AP on the validation data',
          {label: history.metric(name) for name, label in _AP_NAMES.items()}, marker='o', markersize=3)
    _plot(axes[1, 2], 'learning rate', {'': history.series('lr')})
    for axis in axes.flat:
        axis.set_visible(bool(axis.get_title()))
        axis.set_xlim(0, max([*history.train, *history.val, 1]))
        axis.set_xlabel('iteration')
        axis.grid(alpha=0.3)
        axis.spines[['top', 'right']].set_visible(False)
    return figure


def _losses_by_kind(history: History) -> dict[str, list[str]]:
    """Kind of loss -> the prefixes it is logged with, such as `s0.` for the first stage, in the order of stages."""
    kinds: dict[str, set[str]] = defaultdict(set)
    for row in history.train.values():
        for key in row:
            if match := _LOSS.fullmatch(key):
                kinds[match['kind']].add(match['of'])
    return {kind: sorted(parts, key=_natural_order) for kind, parts in kinds.items()}


def _natural_order(text: str) -> list:
    """A sort key that puts s10. after s9."""
    return [int(part) if part.isdigit() else part for part in re.split(r'(\d+)', text)]


def _plot_losses(axis: Axes, history: History, kind: str, parts: list[str]) -> None:
    from matplotlib import colormaps

    colors = colormaps['viridis_r']([0.1 + 0.9 * index / max(len(parts) - 1, 1) for index in range(len(parts))])
    for part, color in zip(parts, colors, strict=True):
        label = re.sub(r's(\d+)\.$', lambda match: f'stage {int(match[1]) + 1}', part).rstrip('.')
        axis.plot(*history.series(f'{part}{kind}'), label=label, color=color, linewidth=1)
    axis.set_title(_LOSS_NAMES.get(kind, kind))
    axis.set_ylim(bottom=0)
    axis.legend(frameon=False, fontsize='small')


def _plot(axis: Axes, title: str, curves: dict[str, tuple[list[int], list[float]]], **style: Any) -> None:
    for label, (steps, values) in curves.items():
        if steps:
            axis.plot(steps, values, label=label, linewidth=1.2, **style)
    axis.set_title(title)
    axis.set_ylim(bottom=0)
    if len(axis.lines) > 1:
        axis.legend(frameon=False, fontsize='small')


@HOOKS.register_module()
class CurvesHook(Hook):
    """Draws the curves of all runs in the work dir to WORK_DIR/`name`, at every validation and at the end."""

    priority = 'LOWEST'  # after LoggerHook

    def __init__(self, name: str = 'curves.png') -> None:
        self.name = name

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Draw the curves."""
        self._draw(runner)

    def after_train(self, runner: Runner) -> None:
        """Draw the curves."""
        self._draw(runner)

    def _draw(self, runner: Runner) -> None:
        if not is_main_process():
            return
        path = Path(runner.work_dir, self.name)
        # a failed picture must not stop a training, so any error is only logged
        try:
            history = read_history(runner.work_dir)
            if history.unreadable:
                runner.logger.warning(f'{path}: {history.unreadable} lines of the logs cannot be read and are skipped')
            if history.train:
                unfinished = path.with_suffix('.part.png')
                draw_curves(history).savefig(unfinished, dpi=100)
                os.replace(unfinished, path)
        except Exception as error:
            runner.logger.warning(f'{path} was not drawn: {type(error).__name__}: {error}')
