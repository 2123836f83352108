"""Writes detections for other programs: COCO JSON, CSV, YOLO txt, and pre-annotations for Label Studio and CVAT."""
from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

from sparse_rcnn_mm.own_outputs import INFO

from .records import Record

# Spreadsheet programs run a cell that starts with one of these as a formula.
_FORMULA = ('=', '+', '-', '@', '\t', '\r')

Records = Callable[[], Iterable[Record]]


def write_coco(path: Path, records: Records, classes: Sequence[str], category_ids: Sequence[int]) -> None:
    """Write a COCO file: images, categories, and the detections as annotations with a `score`.

    Image ids count from 1. Category ids are those of the training data. Frames of a video have their number as
    `frame`.
    """
    categories = [{'id': i, 'name': name} for i, name in zip(category_ids, classes, strict=True)]
    with path.open('w', encoding='utf-8') as file:
        file.write(f'{{"info": {json.dumps(INFO)},\n"categories": {json.dumps(categories)},\n"images": [')
        for number, record in enumerate(records(), start=1):
            image: dict[str, Any] = {'id': number, 'file_name': record.path, 'height': record.height,
                                     'width': record.width}
            if record.frame is not None:
                image['frame'] = record.frame
            file.write((',\n' if number > 1 else '\n') + json.dumps(image))
        file.write('\n],\n"annotations": [')
        count = 0
        for number, record in enumerate(records(), start=1):
            for (x1, y1, x2, y2), score, label in zip(record.boxes, record.scores, record.labels, strict=True):
                count += 1
                box = [round(value, 2) for value in (x1, y1, x2 - x1, y2 - y1)]
                annotation = {'id': count, 'image_id': number, 'category_id': category_ids[label], 'bbox': box,
                              'area': round(box[2] * box[3], 2), 'iscrowd': 0, 'score': score}
                file.write((',\n' if count > 1 else '\n') + json.dumps(annotation))
        file.write('\n]}\n')


def write_csv(path: Path, records: Records, classes: Sequence[str], category_ids: Sequence[int]) -> None:
    """Write a table with one row per detection. An apostrophe is put before text that looks like a formula."""
    with path.open('w', newline='', encoding='utf-8', errors='backslashreplace') as file:
        rows = csv.writer(file)
        rows.writerow(['image', 'frame', 'class', 'score', 'x1', 'y1', 'x2', 'y2'])
        for record in records():
            frame = '' if record.frame is None else record.frame
            for box, score, label in zip(record.boxes, record.scores, record.labels, strict=True):
                rows.writerow([_cell(record.path), frame, _cell(classes[label]), f'{score:.4f}',
                               *(f'{value:.1f}' for value in box)])


def _cell(text: str) -> str:
    return f"'{text}" if text.startswith(_FORMULA) else text


def write_yolo(path: Path, records: Records, classes: Sequence[str], category_ids: Sequence[int]) -> None:
    """Write a txt file per image, with lines `class x y width height score` relative to the image size.

    `classes.txt` lists the classes.
    """
    path.mkdir(exist_ok=True)
    (path / 'classes.txt').write_text(''.join(f'{name}\n' for name in classes), encoding='utf-8')
    for record in records():
        lines = [f'{label} {(x1 + x2) / 2 / record.width:.6f} {(y1 + y2) / 2 / record.height:.6f} '
                 f'{(x2 - x1) / record.width:.6f} {(y2 - y1) / record.height:.6f} {score:.5f}\n'
                 for (x1, y1, x2, y2), score, label in zip(record.boxes, record.scores, record.labels, strict=True)]
        target = path / _numbered(record, '.txt')
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(''.join(lines), encoding='utf-8')


def _numbered(record: Record, suffix: str) -> Path:
    """The record's name with another suffix. Frames of a video get a number, so that each has its own file."""
    name = Path(record.name)
    if record.frame is None:
        return name.with_suffix(suffix)
    return name.with_name(f'{name.stem}_{record.frame:06d}{suffix}')


def write_label_studio(path: Path, records: Records, classes: Sequence[str], category_ids: Sequence[int]) -> None:
    """Write tasks with predictions for Label Studio: rectangles in percent of the image, images as local files."""
    with path.open('w', encoding='utf-8') as file:
        file.write('[')
        for number, record in enumerate(record for record in records() if record.frame is None):
            found = zip(record.boxes, record.scores, record.labels, strict=True)
            result = [{'type': 'rectanglelabels', 'from_name': 'label', 'to_name': 'image', 'score': score,
                       'original_width': record.width, 'original_height': record.height, 'image_rotation': 0,
                       'value': {'x': 100 * x1 / record.width, 'y': 100 * y1 / record.height,
                                 'width': 100 * (x2 - x1) / record.width, 'height': 100 * (y2 - y1) / record.height,
                                 'rotation': 0, 'rectanglelabels': [classes[label]]}}
                      for (x1, y1, x2, y2), score, label in found]
            image = f'/data/local-files/?d={Path(record.path).absolute().as_posix().lstrip("/")}'
            task = {'data': {'image': image}, 'predictions': [{'model_version': INFO['maker'], 'result': result}]}
            file.write((',\n' if number else '\n') + json.dumps(task))
        file.write('\n]\n')


def write_cvat(path: Path, records: Records, classes: Sequence[str], category_ids: Sequence[int]) -> None:
    """Write the format "CVAT for images 1.1", which CVAT can import as the annotations of a task."""
    with path.open('w', encoding='utf-8', errors='xmlcharrefreplace') as file:
        file.write('<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n  <version>1.1</version>\n')
        for number, record in enumerate(record for record in records() if record.frame is None):
            file.write(f'  <image id="{number}" name={quoteattr(Path(record.path).name)} width="{record.width}" '
                       f'height="{record.height}">\n')
            for (x1, y1, x2, y2), label in zip(record.boxes, record.labels, strict=True):
                file.write(f'    <box label={quoteattr(classes[label])} source="auto" occluded="0" xtl="{x1}" '
                           f'ytl="{y1}" xbr="{x2}" ybr="{y2}" z_order="0"/>\n')
            file.write('  </image>\n')
        file.write('</annotations>\n')


# Name of the format -> (ending of the output's name, function that writes it).
FORMATS: dict[str, tuple[str, Callable[[Path, Records, Sequence[str], Sequence[int]], None]]] = {
    'coco': ('.json', write_coco),
    'csv': ('.csv', write_csv),
    'yolo': ('_yolo', write_yolo),
    'label-studio': ('_label_studio.json', write_label_studio),
    'cvat': ('_cvat.xml', write_cvat),
}
