"""The plots of an analysis."""
from __future__ import annotations

import base64
import io

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .analysis import ERROR_NAMES, Analysis
from .average_precision import RECALLS, mean_over_classes

# A colour for every kind of error, and for what is right.
COLORS = {'correct': '#2ca02c', 'class': '#9467bd', 'location': '#ff7f0e', 'both': '#8c564b', 'duplicate': '#17becf',
          'background': '#d62728', 'missed': '#e6c200'}
_MANY = 20  # classes: more get no line or number of their own


def draw_plots(analysis: Analysis) -> dict[str, Figure]:
    """Heading -> figure."""
    return {
        'Precision and recall': _precision_recall(analysis),
        'Errors by kind': _errors(analysis),
        'Confusion matrix': _confusion(analysis),
        'AP by box size': _sizes(analysis),
        'Scores': _scores(analysis),
    }


def _figure(columns: int = 2, width: float = 11, height: float = 4) -> tuple[Figure, np.ndarray]:
    figure = Figure(figsize=(width, height), layout='constrained')
    axes = figure.subplots(1, columns, squeeze=False)[0]
    for axis in axes:
        axis.spines[['top', 'right']].set_visible(False)
    return figure, axes


def _precision_recall(analysis: Analysis) -> Figure:
    figure, (left, right) = _figure()
    curves = analysis.ap.curves
    for iou, color in zip(curves, ('#1f77b4', '#5fa2d0', '#a6cbe6'), strict=True):
        left.plot(RECALLS, mean_over_classes(curves[iou]), label=f'IoU {iou}', color=color)
    left.set_title('mean over classes')
    order = [label for label in np.argsort(analysis.ap.classes[:, 1], kind='stable')
             if not np.isnan(analysis.ap.classes[label, 1])]
    for label in order[:_MANY][::-1]:
        right.plot(RECALLS, curves[0.5][label], linewidth=1,
                   label=f'{analysis.data.classes[label]} {analysis.ap.classes[label, 1]:.2f}')
    right.set_title('IoU 0.5, by class' if len(order) <= _MANY else f'IoU 0.5, the {_MANY} worst classes')
    for axis in (left, right):
        axis.set(xlabel='recall', ylabel='precision', xlim=(0, 1), ylim=(0, 1.02))
        axis.grid(alpha=0.3)
    left.legend(frameon=False)
    if order:
        right.legend(frameon=False, fontsize='small', loc='center left', bbox_to_anchor=(1, 0.5), title='AP50',
                     ncols=2 if len(order) > 10 else 1)
    return figure


def _errors(analysis: Analysis) -> Figure:
    figure, (left, right) = _figure(height=3.2)
    counts = analysis.counts[:, 2:].sum(axis=0)
    colors = [COLORS[name] for name in ERROR_NAMES]
    _bars(left, ERROR_NAMES, counts, colors, '{:.0f}')
    left.set_title(f'number, scores of {analysis.score_thr:.2f} and more')
    _bars(right, ERROR_NAMES, [analysis.costs[name] for name in ERROR_NAMES], colors, '{:+.3f}')
    right.set_title('AP50 won if these were right, all scores')
    return figure


def _bars(axis: Axes, names: tuple[str, ...], values: np.ndarray | list[float], colors: list[str], form: str) -> None:
    bars = axis.barh(names, np.nan_to_num(values), color=colors)
    axis.bar_label(bars, [form.format(value) for value in values], padding=3)
    axis.invert_yaxis()
    axis.margins(x=0.15)


def _confusion(analysis: Analysis) -> Figure:
    names = analysis.data.classes
    few = len(names) <= _MANY
    side = float(np.clip(0.45 * len(names) + 2.5, 4.5, 11))
    figure, (axis,) = _figure(1, side + 1, side)
    counts = analysis.confusion
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    picture = axis.imshow(shares, cmap='Blues', vmin=0, vmax=1)
    figure.colorbar(picture, ax=axis, shrink=0.7, label='share of the row')
    size = 8 if few else max(3, min(7, 420 / len(names)))
    ticks = range(len(names) + 1)
    axis.set_xticks(ticks, [*names, 'missed'], rotation=90, fontsize=size)
    axis.set_yticks(ticks, [*names, 'background'], fontsize=size)
    axis.set(xlabel='detected', ylabel='true')
    if few:
        for (row, column), count in np.ndenumerate(counts):
            if count:
                axis.text(column, row, str(count), ha='center', va='center', fontsize=size,
                          color='white' if shares[row, column] > 0.5 else 'black')
    return figure


def _sizes(analysis: Analysis) -> Figure:
    figure, (axis,) = _figure(1, 8, 3.4)
    rows = analysis.ap.sizes
    names = [f'{low:g}-{high:g}' if high < 1e5 else f'{low:g}+' for low, high, *_ in rows]
    bars = axis.bar(names, [ap for *_, ap, _ in rows], color='#1f77b4')
    axis.bar_label(bars, [f'{ap:.2f}\n{count} boxes' for *_, ap, count in rows], padding=2, fontsize='small')
    axis.set(xlabel='square root of the box area, pixels of the image file', ylabel='AP')
    axis.margins(y=0.25)
    return figure


def _scores(analysis: Analysis) -> Figure:
    figure, (left, right) = _figure()
    bins, error = analysis.scores.calibration()
    edges = np.arange(len(bins)) / len(bins)
    left.bar(edges, [part for _, part, _ in bins], width=1 / len(bins), align='edge', color='#1f77b4',
             edgecolor='white')
    for edge, (_, part, count) in zip(edges, bins, strict=True):
        if count:
            left.text(edge + 0.5 / len(bins), part + 0.01, f'{count}', ha='center', fontsize='x-small')
    left.plot([0, 1], [0, 1], color='black', linestyle=':', linewidth=1)
    left.set(xlabel='score', ylabel='part that is correct', xlim=(0, 1), ylim=(0, 1.08))
    left.set_title('calibration' if np.isnan(error) else f'calibration: expected error {error:.3f}')
    thresholds, precision, recall, f1 = analysis.scores.at_thresholds()
    for name, values in (('precision', precision), ('recall', recall), ('F1', f1)):
        right.plot(thresholds, values, label=name)
    right.axvline(analysis.score_thr, color='black', linestyle=':', linewidth=1, label=f'{analysis.score_thr:.2f}')
    right.set(xlabel='score threshold', xlim=(0, 1), ylim=(0, 1.02))
    right.set_title('what a threshold gives, IoU 0.5')
    right.grid(alpha=0.3)
    right.legend(frameon=False)
    return figure


def as_data_uri(figure: Figure) -> str:
    """The figure as a PNG inside an address."""
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=110)
    return 'data:image/png;base64,' + base64.b64encode(buffer.getvalue()).decode()
