"""Writes the examination as one self-contained HTML page."""
from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from sparse_rcnn_mm.datasets.read_image import read_image
from sparse_rcnn_mm.evaluation.analysis import Analysis
from sparse_rcnn_mm.evaluation.page import error_gallery, figure, write_document
from sparse_rcnn_mm.evaluation.plots import as_data_uri
from sparse_rcnn_mm.visualization import Mark, class_colors, draw_boxes, enlarged
from sparse_rcnn_mm.visualization.contact_sheet import contact_sheet
from sparse_rcnn_mm.visualization.masks import draw_masks

from .examine import Examination
from .hypotheses import AS_THEY_ARE, put_right
from .mask_places import decoded
from .measurements import LearningRate, Measurements, Overfit
from .sample import Labelled
from .verdict import conclusion, verdicts

_PICTURES = 8
_SIDE = 640  # length in pixels of the longer side of a picture
_LABEL, _RIGHT = (255, 196, 0), (0, 170, 90)  # colors of unchanged and of corrected boxes


def write_page(done: Examination, path: Path) -> None:
    """Write the page."""
    sections = {name: body for name, body in _sections(done) if body}
    body = ''.join(f'<h2>{name}</h2>{content}' for name, content in sections.items())
    title = f'Doctor: {done.found.name}, {Path(done.found.config).name}'
    write_document(path, title, f'{_verdict(done.found)}{body}')


def _sections(done: Examination) -> Iterable[tuple[str, str]]:
    found = done.found
    yield 'Labels as the file has them', _labels(done)
    yield 'Masks and their boxes', _masks(found)
    if done.images is not None:
        sheet = contact_sheet(done.images.train, done.images.classes, _PICTURES)
        yield 'After the training pipeline', figure(sheet, found.augmented.words() if found.augmented else '')
    yield 'Input of the network', _inputs(found)
    yield 'Weights by part', _weights(found)
    if found.learning_rate is not None:
        yield 'Learning rate', _learning_rate(found.learning_rate)
    if found.overfit is not None:
        yield 'Learning these images', _overfit(found.overfit)
        yield 'Stage by stage', _stages(found.overfit)
    if done.detections is not None:
        analysis = Analysis.of(done.detections)
        yield 'Detections on these images, at the end', error_gallery(analysis, range(len(analysis.records)))


def _verdict(found: Measurements) -> str:
    lines = ''.join(f'<tr><td>{one.kind}<td style="text-align: left">{escape(str(one))}' for one in verdicts(found))
    return f'<p><strong>{escape(conclusion(found))}</strong></p><table>{lines}</table>'


def _labels(done: Examination) -> str:
    labels = done.found.labels
    if labels is None:
        return ''
    name = labels.decided if labels.decided not in (None, AS_THEY_ARE) else None
    text = f'Compared with {labels.by}' if labels.by else 'Compared with nothing: neither weights nor edges tell'
    rows = _table(['boxes', 'fit'], [[one.name, one.fit] for one in labels.hypotheses])
    shown = done.labelled[:_PICTURES] if done.found.masks else [replace(one, masks=()) for one in
                                                                done.labelled[:_PICTURES]]
    drawn = ''.join(figure(_drawn(one, name, labels.shift), one.path.name) for one in shown)
    key = ' Yellow: as the file has them. Green: put right.' if name else ''
    key += ' A mask has the color of its box.' if done.found.masks and not name else ''
    return f'<p>{text}.{key}</p>{rows}<div class="pictures">{drawn}</div>'


def _masks(found: Measurements) -> str:
    masks = found.masks
    if masks is None:
        return ''
    rows = [['boxes in these images', masks.boxes], ['with a mask', masks.masks], ['not where the box is',
            masks.elsewhere], ['of these in the box of another object', masks.of_another], ['of these empty',
            masks.empty], ['filling the box', masks.whole], ['that cannot be decoded', masks.broken]]
    return _table(['masks', 'number'], rows) + '<p>Mean IoU of the box of a mask with the box of its object:</p>' + (
        _table(['masks', 'IoU'], [[one.name, one.fit] for one in masks.hypotheses]))


def _drawn(one: Labelled, name: str | None, shift: tuple[int, int]) -> Image.Image:
    image = read_image(one.path)
    factor = _SIDE / max(image.shape[:2])
    if factor >= 1:
        picture, scale = enlarged(image)
        factor = float(scale)
    else:
        picture = Image.fromarray(image)
        picture = picture.resize((max(round(picture.width * factor), 1), max(round(picture.height * factor), 1)))
    bitmaps = dict(decoded(one, []))
    colors = class_colors(len(one.boxes)) if bitmaps and not name else [_LABEL] * len(one.boxes)
    if bitmaps:
        draw_masks(picture, np.stack(list(bitmaps.values())).astype(bool), [colors[index] for index in bitmaps])
    marks = [Mark(box * factor, color) for box, color in zip(one.boxes, colors, strict=True)]
    if name:
        marks += [Mark(box * factor, _RIGHT) for box in put_right(name, shift, one.boxes, one.width, one.height)]
    return draw_boxes(picture, marks)


def _inputs(found: Measurements) -> str:
    inputs = found.inputs
    if inputs is None:
        return ''
    rows: list[list[Any]] = [['the config', inputs.used.order, *map(_joined, (inputs.used.mean, inputs.used.std))]]
    if inputs.wanted is not None:
        rows.append([inputs.wanted_by, inputs.wanted.order, *map(_joined, (inputs.wanted.mean, inputs.wanted.std))])
    rows.append(['normalized pixels of the images', '', _joined(inputs.mean), _joined(inputs.std)])
    distances = [[name, value] for name, value in inputs.distances.items()]
    return _table(['', 'order', 'mean', 'std'], rows) + (
        '<p>Distance of the input of the first batch norm from the statistics that it was trained with:</p>'
        + _table(['', 'distance'], distances) if distances else '')


def _weights(found: Measurements) -> str:
    if found.weights is None:
        return ''
    rows = [[part.name, part.tensors, part.loaded, part.reshaped, part.frozen, part.frozen_at_random, part.moved]
            for part in found.weights.parts]
    source = found.weights.source or found.weights.pretrained or 'no checkpoint'
    return f'<p>Loaded from {escape(source)}.</p>' + _table(
        ['part', 'tensors', 'loaded', 'other shape', 'frozen', 'frozen at random', 'changed by learning'], rows)


def _learning_rate(rate: LearningRate) -> str:
    rows: list[list[Any]] = [['learning rate', f'{rate.lr:g}'], ['images a step', rate.images],
            ['images a step it is for', rate.base_images or '-'], ['iterations of warm-up', rate.warmup],
            ['iterations', rate.iterations], ['epochs', f'{rate.epochs:.1f}'], ['optimizer', rate.optimizer]]
    probes = [[f'{rate.lr * one.factor:g}', one.first, one.last] for one in rate.probes]
    return _table(['', ''], rows) + ('<p>Short trainings from the same start:</p>' + _table(
        ['learning rate', 'loss at the start', 'at the end'], probes) if probes else '')


def _overfit(done: Overfit) -> str:
    plot = Figure(figsize=(8, 3.2), layout='constrained')
    left, right = plot.subplots(1, 2)
    left.semilogy(np.arange(1, len(done.losses) + 1), done.losses, linewidth=1)
    left.set(xlabel='iteration', title='loss')
    for column, name in ((1, 'AP'), (2, 'AP50')):
        line, = right.plot([one[0] for one in done.ap], [one[column] for one in done.ap], marker='o', label=name)
        if done.mask_ap:
            right.plot([one[0] for one in done.mask_ap], [one[column] for one in done.mask_ap], marker='s',
                       linestyle='--', color=line.get_color(), label=f'mask {name}')
    right.set(xlabel='iteration', ylim=(0, 1.02), title='AP on these images')
    right.legend(frameon=False)
    for axis in (left, right):
        axis.spines[['top', 'right']].set_visible(False)
        axis.grid(alpha=0.3)
    words = {'learned': 'they were learned', 'iterations': 'the iterations were used up',
             'time': 'the time was used up', 'stuck': 'the loss did not fall', 'broken': done.broken}
    return (f'<p>{len(done.losses)} iterations on {done.images} images in {done.seconds:.0f} s, until '
            f'{escape(words[done.limit])}.</p><img alt="loss and AP" src="{as_data_uri(plot)}">')


def _stages(done: Overfit) -> str:
    head = ['', *(f'{name} {when}' for name in ('reached', 'cost', 'IoU', 'score') for when in ('before', 'after'))]
    rows: list[list[Any]] = []
    for index, (before, after) in enumerate(zip(done.before, done.after, strict=False)):
        rows.append([f'stage {index}' if index else 'proposals', *(
            value for name in ('reached', 'cost', 'iou', 'score') for value in (
                getattr(before, name), getattr(after, name)))])
    text = ('<p>Reached: share of the objects that any box reaches with IoU 0.5. Cost, IoU and score of the right '
            'class: means over the matched proposals.</p>')
    return text + _table(head, rows) if rows else ''


def _table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    cells = ''.join('<tr>' + ''.join(f'<td>{escape(_cell(value))}' for value in row) for row in rows)
    return '<div class="wide"><table><tr>' + ''.join(f'<th>{escape(one)}' for one in head) + f'{cells}</table></div>'


def _cell(value: Any) -> str:
    return '-' if value is None else f'{value:.3f}' if isinstance(value, float) else str(value)


def _joined(values: Sequence[float]) -> str:
    return ', '.join(f'{value:.4g}' for value in values)
