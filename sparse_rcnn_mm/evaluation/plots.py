"""The plots of an analysis."""
from __future__ import annotations

import base64
import io
import warnings

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sparse_rcnn_mm.visualization.letters import in_plots

from .analysis import ERROR_NAMES, Analysis
from .average_precision import RECALLS, mean_over_classes

# A color for each kind of error, and one for correct detections.
COLORS = {'correct': '#2ca02c', 'class': '#9467bd', 'location': '#ff7f0e', 'both': '#8c564b', 'duplicate': '#17becf',
          'background': '#d62728', 'missed': '#e6c200'}
_MANY = 20  # With more classes than this, plots leave out the lines and numbers of single classes.


def draw_plots(analysis: Analysis) -> dict[str, list[Figure]]:
    """Heading -> figures. Each figure is small enough for a narrow screen."""
    return {
        'Precision and recall': [_mean_curves(analysis), _class_curves(analysis)],
        'Errors by kind': _errors(analysis),
        'Confusion matrix': [_confusion(analysis)],
        'AP by box size': [_sizes(analysis)],
        'Scores': [_calibration(analysis), _thresholds(analysis)],
    }


def _figure(width: float = 5.5, height: float = 4) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout='constrained')
    axis = figure.subplots()
    axis.spines[['top', 'right']].set_visible(False)
    return figure, axis


def _mean_curves(analysis: Analysis) -> Figure:
    figure, axis = _precision_recall('mean over classes')
    for (iou, curves), color in zip(analysis.ap.curves.items(), ('#1f77b4', '#5fa2d0', '#a6cbe6'), strict=True):
        axis.plot(RECALLS, mean_over_classes(curves), label=f'IoU {iou}', color=color)
    axis.legend(frameon=False)
    return figure


def _class_curves(analysis: Analysis) -> Figure:
    ap50 = analysis.ap.classes[:, 1]
    order = [label for label in np.argsort(ap50, kind='stable') if not np.isnan(ap50[label])]
    figure, axis = _precision_recall(
        'IoU 0.5, by class' if len(order) <= _MANY else f'IoU 0.5, the {_MANY} worst classes')
    for label in order[:_MANY][::-1]:
        axis.plot(RECALLS, analysis.ap.curves[0.5][label], linewidth=1,
                  label=in_plots(f'{analysis.data.classes[label]} {ap50[label]:.2f}'))
    if order:
        axis.legend(frameon=False, fontsize='small', loc='center left', bbox_to_anchor=(1, 0.5), title='AP50',
                    ncols=2 if len(order) > 10 else 1)
    return figure


def _precision_recall(title: str) -> tuple[Figure, Axes]:
    figure, axis = _figure()
    axis.set(title=title, xlabel='recall', ylabel='precision', xlim=(0, 1), ylim=(0, 1.02))
    axis.grid(alpha=0.3)
    return figure, axis


def _errors(analysis: Analysis) -> list[Figure]:
    return [_bars(f'number, scores of at least {analysis.score_thr:.2f}', analysis.counts[:, 2:].sum(axis=0), '{:.0f}'),
            _bars('AP50 gained if these were correct, all scores', [analysis.costs[name] for name in ERROR_NAMES],
                  '{:+.3f}')]


def _bars(title: str, values: np.ndarray | list[float], form: str) -> Figure:
    figure, axis = _figure(height=3.2)
    bars = axis.barh(ERROR_NAMES, np.nan_to_num(values), color=[COLORS[name] for name in ERROR_NAMES])
    axis.bar_label(bars, [form.format(value) for value in values], padding=3)
    axis.invert_yaxis()
    axis.margins(x=0.15)
    axis.set_title(title)
    return figure


def _confusion(analysis: Analysis) -> Figure:
    names = [in_plots(name) for name in analysis.data.classes]
    few = len(names) <= _MANY
    side = float(np.clip(0.45 * len(names) + 2.5, 4.5, 11))
    figure, axis = _figure(side + 1, side)
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
    figure, axis = _figure(6.5, 3.4)
    rows = analysis.ap.sizes
    names = [f'{low:g}-{high:g}' if high < 1e5 else f'{low:g}+' for low, high, *_ in rows]
    bars = axis.bar(names, [ap for *_, ap, _ in rows], color='#1f77b4')
    axis.bar_label(bars, [f'{ap:.2f}\n{count} boxes' for *_, ap, count in rows], padding=2, fontsize='small')
    axis.set(xlabel='square root of the area in the annotation file, pixels', ylabel='AP')
    axis.margins(y=0.25)
    return figure


def _calibration(analysis: Analysis) -> Figure:
    figure, axis = _figure()
    bins, error = analysis.scores.calibration()
    edges = np.arange(len(bins)) / len(bins)
    axis.bar(edges, [part for _, part, _ in bins], width=1 / len(bins), align='edge', color='#1f77b4',
             edgecolor='white')
    for edge, (_, part, count) in zip(edges, bins, strict=True):
        if count:
            axis.text(edge + 0.5 / len(bins), part + 0.01, f'{count}', ha='center', fontsize='x-small')
    axis.plot([0, 1], [0, 1], color='black', linestyle=':', linewidth=1)
    axis.set(xlabel='score', ylabel='share that is correct', xlim=(0, 1), ylim=(0, 1.08))
    axis.set_title('calibration' if np.isnan(error) else f'calibration: expected error {error:.3f}')
    return figure


def _thresholds(analysis: Analysis) -> Figure:
    figure, axis = _figure()
    thresholds, *shares = analysis.scores.at_thresholds()
    for name, values in zip(('precision', 'recall', 'F1'), shares, strict=True):
        axis.plot(thresholds, values, label=name)
    axis.axvline(analysis.score_thr, color='black', linestyle=':', linewidth=1, label=f'{analysis.score_thr:.2f}')
    axis.set(title='precision and recall by threshold, IoU 0.5', xlabel='score threshold', xlim=(0, 1), ylim=(0, 1.02))
    axis.grid(alpha=0.3)
    axis.legend(frameon=False)
    return figure


def as_data_uri(figure: Figure) -> str:
    """The figure as a PNG in a data URI."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings('ignore', message='Glyph .* missing from')  # said once by `in_plots`
        figure.savefig(buffer, dpi=110)
    return 'data:image/png;base64,' + base64.b64encode(buffer.getvalue()).decode()
