"""Writes a comparison as one self-contained HTML page."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from ..page import figure, write_document
from .comparison import Comparison
from .pictures import COLORS, TRUE, draw_pictures

_KINDS = {'both': 'found by both', 'only A': 'only by A', 'only B': 'only by B', 'other class': 'as another class'}

_SIZE = ('<p>The size is the square root of the area that the annotation states, in pixels. In COCO, this is the area '
         'of the mask.</p>')


def write_page(comparison: Comparison, numbers: Mapping[str, Any], path: Path, pictures: int) -> None:
    """Write the page, with the `pictures` images on which A and B disagree most. `numbers` come from `as_numbers`."""
    sections = {'Models': _models(numbers), 'Agreement': _agreement(numbers)}
    if 'average_precision' in numbers:
        found = numbers['average_precision']
        sections['AP by class'] = _ap_table('class', found['classes'])
        sections['AP by box size'] = _SIZE + _ap_table('size', {_size(one): one for one in found['sizes']})
    if 'mask_average_precision' in numbers:
        found = numbers['mask_average_precision']
        sections['Mask AP by class'] = _ap_table('class', found['classes'], 'masks')
        sections['Mask AP by size'] = _SIZE + _ap_table('size', {_size(one): one for one in found['sizes']}, 'masks')
    sections['Images, those with the most disagreements first'] = _images(comparison, numbers, pictures)
    body = ''.join(f'<h2>{heading}</h2>{content}' for heading, content in sections.items())
    a, b = comparison.sides
    write_document(path, f'{a.name} and {b.name} on {comparison.subject.name}', body)


def summary_rows(numbers: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Return (name, value of A, value of B) for each number about a model, as text."""
    models = numbers['models']
    rows = [(prefix + name.replace('_', ' '), _decimal(one['A']), _decimal(one['B']))
            for prefix, key in (('', 'average_precision'), ('mask ', 'mask_average_precision'))
            for name, one in numbers.get(key, {'overall': {}})['overall'].items()]
    for title, key, text in (('ms an image, median', 'seconds_an_image', lambda value: f'{value * 1000:.1f}'),
                             ('parameters', 'parameters', lambda value: f'{value / 1e6:.2f} M'),
                             ('file', 'file_bytes', lambda value: f'{value / 1e6:.1f} MB'),
                             ('score threshold', 'score_threshold', lambda value: f'{value:.2f}'),
                             ('detections', 'detections', str)):
        a, b = ('-' if models[letter][key] is None else text(models[letter][key]) for letter in 'AB')
        rows.append((title, a, b))
    return rows


def not_compared(numbers: Mapping[str, Any]) -> list[str]:
    """Return a sentence for each model with classes that the other does not know, and the notes about the models."""
    lines = []
    for letter in 'AB':
        model, names = numbers['models'][letter], numbers['classes'][f'only {letter}']
        if names:
            count = sum(model['of_other_classes'].values())
            lines.append(f'not compared: {len(names)} classes that only {letter} knows, with {count} detections of '
                         f'{letter}: {", ".join(names[:20])}' + (', ...' if len(names) > 20 else ''))
        if model['note']:
            lines.append(f'the file of {letter} {model["note"]}, which detection does not need')
    return lines


def _models(numbers: Mapping[str, Any]) -> str:
    names = ''.join(f'<div><dt>{letter}<dd>{escape(numbers["models"][letter]["name"])}</div>' for letter in 'AB')
    notes = ''.join(f'<p>{escape(line[0].upper() + line[1:])}.</p>' for line in not_compared(numbers))
    ratio = numbers['A_takes_times_as_long_as_B']
    return (f'<dl class="big">{names}</dl><p>{numbers["images"]} images. AP and detections are of the '
            f'{len(numbers["classes"]["compared"])} classes that both models know by the same name. A and B took turns '
            'on every image, one image at a time, from the pixels to the detections; the time is the median. In the '
            f'median of these pairs, A takes {ratio:.2f} times as long as B.</p>{notes}'
            + _table(['', 'A', 'B'], summary_rows(numbers)))


def _agreement(numbers: Mapping[str, Any]) -> str:
    letters = [letter for letter in 'AB' if f'{letter} correct' in numbers['agreement']['both']]
    rows = [(_KINDS[kind], str(row['count']), *(str(row.get(f'{letter} correct', '-')) for letter in letters))
            for kind, row in numbers['agreement'].items()]
    return ('<p>Detections that reach the score threshold of their model. Two detections are the same if their IoU is '
            'at least 0.5 and their class is the same; pairs with the highest IoU are taken first. What is left and '
            'overlaps as much is a pair of different classes.</p>'
            + _table(['', 'number', *(f'correct, of {letter}' for letter in letters)], rows))


def _ap_table(head: str, rows: Mapping[str, Mapping[str, float]], noun: str = 'boxes') -> str:
    return _table([head, noun, 'A', 'B', 'A - B'], [
        (name, str(row[noun]), _decimal(row['A']), _decimal(row['B']), _decimal(row['A'] - row['B'], '+'))
        for name, row in rows.items()])


def _images(comparison: Comparison, numbers: Mapping[str, Any], pictures: int) -> str:
    columns = 3 if comparison.subject.annotated else 2
    shown = list(zip(comparison.order(), numbers['by_image'], strict=True))[:pictures]
    key = ''.join(f'<span class="key"><i style="background: rgb{color}"></i>{name}</span>' for name, color in
                  [*COLORS.items(), *([('ground truth', TRUE)] if columns == 3 else [])])
    rows = ''.join(
        f'<h3>{escape(row["name"])}</h3><p>{_caption(row)}</p><div style="display: grid; gap: .5em; '
        f'grid-template-columns: repeat({columns}, minmax(0, 1fr))">'
        + ''.join(figure(picture, name) for picture, name in
                  zip(draw_pictures(comparison, index), ['A', 'B', 'ground truth'], strict=False)) + '</div>'
        for index, row in shown)
    more = len(numbers['by_image']) - len(shown)
    return f'<p>{key}</p>{rows}' + (f'<p>{more} more images, in comparison.json.</p>' if more else '')


def _caption(row: Mapping[str, Any]) -> str:
    text = ', '.join(f'{row[kind]} {name}' for kind, name in _KINDS.items())
    if 'objects' not in row:
        return text
    return f'{text}. Of {row["objects"]} objects, ' + '; '.join(
        f'{letter} finds {row[f"{letter} correct"]}, with {row[f"{letter} errors"]} errors' for letter in 'AB')


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ''.join('<tr>' + ''.join(f'<td>{escape(cell)}' for cell in row) for row in rows)
    return f'<div class="wide"><table><tr>{"".join(f"<th>{name}" for name in head)}{lines}</table></div>'


def _size(one: Mapping[str, float]) -> str:
    return f'{one["from"]:g} to {one["to"]:g}' if one['to'] < 1e5 else f'{one["from"]:g} and more'


def _decimal(value: float, sign: str = '') -> str:
    return f'{value:{sign}.3f}' if value == value else '-'
