"""Writes an analysis as one self-contained HTML page."""
from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape
from pathlib import Path
from typing import Any

from PIL import Image

from sparse_rcnn_mm.evaluation import error_pictures, plots

from .analysis import ERROR_NAMES, Analysis

_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; max-width: 1100px; margin: 2em auto; padding: 0 1em; color: #222 }
h1 { font-size: 1.5em } h2 { font-size: 1.2em; margin-top: 2em; border-bottom: 1px solid #ddd }
img { max-width: 100%; display: block } table { border-collapse: collapse } p { max-width: 50em }
th, td { padding: .2em .7em; text-align: right; border-bottom: 1px solid #eee } th:first-child, td:first-child
{ text-align: left } th { border-bottom: 1px solid #999; font-weight: 600 }
.big { display: flex; flex-wrap: wrap; gap: .5em 2.5em; margin: 0 } .big dt { color: #666 }
.big dd { margin: 0; font-size: 1.4em } .wide { overflow-x: auto }
.plots, .pictures { display: grid; gap: 1em; grid-template-columns: repeat(auto-fill, minmax(min(100%, 320px), 1fr)) }
.plots { grid-template-columns: repeat(auto-fit, minmax(min(100%, 440px), 1fr)) }
figure { margin: 0 } figcaption { font-size: .85em; color: #444; overflow-wrap: anywhere }
.key { display: inline-block; margin-right: 1em } .key i { display: inline-block; width: .9em; height: .9em;
vertical-align: -.1em; margin-right: .3em }
"""

_EXPLAINED = {
    'Precision and recall': 'Recall is the share of the objects that are found. Precision is the share of the '
                            'detections that are correct. AP is the area under the curve.',
    'Errors by kind': 'Class: on an object, with the wrong class. Location: on an object of its class, IoU 0.1 to 0.5. '
                      'Both: wrong class and wrong place, IoU 0.1 to 0.5. Duplicate: on an object that a better '
                      'detection has found. Background: on no object. Missed: an object that is neither found nor the '
                      'target of a class or location error. '
                      'The kinds are those of TIDE (arXiv 2008.08115).',
    'Confusion matrix': 'Rows are true classes, columns are detected classes, at IoU 0.5. The bottom row counts '
                        'detections that match no free object, including duplicates. The last column counts objects '
                        'that were not found.',
    'AP by box size': 'AP averaged over IoU 0.5 to 0.95, for objects of each size.',
    'Scores': 'Calibration: the share of the detections with a given score that are correct. On the dotted line, this '
              'share equals the score. The numbers count detections. Thresholds: the dotted line marks the one in use.',
}


def write_page(analysis: Analysis, numbers: Mapping[str, Any], path: Path, title: str) -> None:
    """Write the page. `numbers` come from `as_numbers`."""
    plotted = {heading: f'<p>{_EXPLAINED[heading]}</p><div class="plots">' + ''.join(
        f'<img alt="{heading}" src="{plots.as_data_uri(figure)}">' for figure in figures) + '</div>'
               for heading, figures in plots.draw_plots(analysis).items()}
    sections = {'By class': _class_table(numbers), **plotted, 'Worst images': _pictures(analysis, numbers)}
    body = ''.join(f'<h2>{heading}</h2>{content}' for heading, content in sections.items())
    write_document(path, title, f'{_summary(numbers)}{body}')


def write_document(path: Path, title: str, body: str) -> None:
    """Write a whole page in the style of all pages; `body` is HTML. What is not text in names is escaped."""
    page = ('<!doctype html><html lang="en"><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            f'<title>{escape(title)}</title><style>{_STYLE}</style><h1>{escape(title)}</h1>{body}</html>')
    path.write_text(page, encoding='utf-8', errors='backslashreplace')


def _summary(numbers: Mapping[str, Any]) -> str:
    values = {**numbers['overall'], **{f'mask {name}': value for name, value in numbers.get('masks', {}).items()}}
    terms = ''.join(f'<div><dt>{name.replace("_", " ")}<dd>{_number(value)}</div>' for name, value in values.items())
    return (f'<p>{numbers["images"]} images with {numbers["boxes"]} objects, {numbers["detections"]} detections. '
            f'Counts and precision use IoU 0.5 and detections with a score of at least '
            f'{numbers["score_threshold"]:.2f}. AP uses all detections.</p><dl class="big">{terms}</dl>')


def _class_table(numbers: Mapping[str, Any]) -> str:
    columns = ['boxes', 'AP', 'AP50', 'AP75', 'precision', 'recall', 'correct', *ERROR_NAMES]
    head = ''.join(f'<th>{column}' for column in ['class', *columns])
    rows = ''.join(f'<tr><td>{escape(name)}' + ''.join(_cell(column, row[column]) for column in columns)
                   for name, row in numbers['classes'].items())
    return f'<div class="wide"><table><tr>{head}{rows}</table></div>'


def _cell(column: str, value: float) -> str:
    bar = ''
    if column == 'AP' and value == value:
        bar = f' style="background: linear-gradient(90deg, #cfe3f3 {value:.0%}, transparent {value:.0%})"'
    return f'<td{bar}>{_number(value)}'


def _number(value: float) -> str:
    if isinstance(value, int):
        return str(value)
    return f'{value:.3f}' if value == value else '-'


def _pictures(analysis: Analysis, numbers: Mapping[str, Any]) -> str:
    worst = analysis.worst(len(numbers['worst_images']))
    if not worst:
        return '<p>No errors.</p>'
    return error_gallery(analysis, worst)


def error_gallery(analysis: Analysis, indices: Iterable[int]) -> str:
    """Pictures of these images with their detections in the color of their kind, as HTML."""
    key = ''.join(f'<span class="key"><i style="background: {color}"></i>{name}</span>'
                  for name, color in plots.COLORS.items())
    figures = []
    for index in indices:
        caption = ', '.join(f'{count} {name}' for name, count in analysis.errors_of(index).items())
        name = Path(analysis.records[index].path).name
        figures.append(figure(error_pictures.draw_errors(analysis, index), f'{name}: {caption or "no errors"}'))
    return f'<p>{key}</p><div class="pictures">{"".join(figures)}</div>'


def figure(picture: Image.Image, caption: str) -> str:
    """A picture with text below it, as HTML."""
    return (f'<figure><img alt="" src="{error_pictures.as_data_uri(picture)}"><figcaption>{escape(caption)}'
            '</figcaption></figure>')
