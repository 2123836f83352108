"""Draws the curves of several trainings in one figure."""
from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib import color_sequences
from matplotlib.figure import Figure

from sparse_rcnn_mm.engine.hooks.curves import History, read_history
from sparse_rcnn_mm.errors import UserError
from sparse_rcnn_mm.inference.names import below_common_folder
from sparse_rcnn_mm.terminal import complain
from sparse_rcnn_mm.visualization.letters import in_plots

# Title -> the name of a validation metric, or of a number logged in training.
METRICS = {'AP': 'mAP', 'AP50': 'mAP_50', 'AP75': 'mAP_75', 'validation loss': 'val_loss'}
LOGGED = {'training loss': 'loss', 'learning rate': 'lr'}


def read_histories(work_dirs: Sequence[str]) -> dict[str, History]:
    """Read the logs of each training, by the path of its folder relative to the common parent.

    Raises:
        UserError: a folder has no logs, or was given twice.
    """
    whole = [str(Path(folder).expanduser().resolve()) for folder in work_dirs]
    if twice := [folder for folder, path in zip(work_dirs, whole, strict=True) if whole.count(path) > 1]:
        raise UserError(f'{twice[0]} was given twice')
    histories = {}
    for name, folder in zip(below_common_folder(whole), whole, strict=True):
        if not Path(folder).is_dir():
            raise UserError(f'there is no folder {folder}')
        history = read_history(folder)
        if not history.train:
            raise UserError(f'{folder} holds no logs of a training (*/vis_data/scalars.json): it is not a work dir')
        if history.unreadable:
            complain(f'{folder}: {history.unreadable} lines of the logs cannot be read and are skipped')
        histories[name] = history
    return histories


def draw_curves(histories: Mapping[str, History]) -> Figure:
    """Draw a plot for each number that any training logged, with a line for each training."""
    titles = [title for title in (*METRICS, *LOGGED) if any(_curve(one, title)[0] for one in histories.values())]
    columns = min(3, len(titles))
    rows = -(-len(titles) // columns)
    figure = Figure(figsize=(4.5 * columns, 3.5 * rows + 0.3 * len(histories)), layout='constrained')
    axes = figure.subplots(rows, columns, squeeze=False)
    looks = itertools.product(('-', '--', ':', '-.'), color_sequences['tab10' if len(histories) <= 10 else 'tab20'])
    styles, colors = zip(*itertools.islice(itertools.cycle(looks), len(histories)), strict=True)
    last = max(step for history in histories.values() for step in [*history.train, *history.val])
    for axis, title in zip(axes.flat, titles, strict=False):
        for number, history in enumerate(histories.values()):
            steps, values = _curve(history, title)
            axis.plot(steps, values, color=colors[number], linewidth=1.2,
                      linestyle=styles[number],
                      **({'marker': 'o', 'markersize': 3} if title in METRICS else {}))
        axis.set(title=title, xlabel='iteration', xlim=(0, max(last, 1)))
        axis.set_ylim(bottom=0)
        axis.grid(alpha=0.3)
        axis.spines[['top', 'right']].set_visible(False)
    for axis in axes.flat[len(titles):]:
        axis.set_visible(False)
    lines = [axes[0, 0].plot([], [], color=colors[number], linestyle=styles[number])[0]
             for number in range(len(histories))]
    figure.legend(lines, [in_plots(name) for name in histories], loc='outside lower left', frameon=False)
    return figure


def best_lines(histories: Mapping[str, History]) -> list[str]:
    """Return one line of text for each training: its length, and the best value of each validation metric."""
    lines = []
    for name, history in histories.items():
        parts = [f'{max(history.train)} iterations']
        for title in METRICS:
            steps, values = _curve(history, title)
            if steps:
                best = (min if title == 'validation loss' else max)(values)
                parts.append(f'{title} {best:.3f} at {steps[values.index(best)]}')
        lines.append(f'{name}: {", ".join(parts)}')
    return lines


def _curve(history: History, title: str) -> tuple[list[int], list[float]]:
    return history.metric(METRICS[title]) if title in METRICS else history.series(LOGGED[title])
