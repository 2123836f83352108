"""Writes detections for other programs: COCO JSON, CSV, YOLO txt, and pre-annotations for Label Studio and CVAT."""
from __future__ import annotations

import csv
import json
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote
from xml.sax.saxutils import escape, quoteattr

from sparse_rcnn_mm.own_outputs import INFO
from sparse_rcnn_mm.terminal import one_line, say

from .names import unused_name
from .records import Record

# Spreadsheet programs run a cell that starts with one of these as a formula.
_FORMULA = ('=', '+', '-', '@', '\t', '\r')

_NOT_XML = re.compile('[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]')

Records = Callable[[], Iterable[Record]]


def write_coco(path: Path, records: Records, classes: Sequence[str], category_ids: Sequence[int]) -> None:
    """Write a COCO file: images, categories, and the detections as annotations with a `score`.

    Image ids start at 1. `category_id` is the id in the data that the model was trained on. `file_name` is relative to
    the input folder, and `path` is the file. Frames of videos have their number as `frame`. Masks are compressed run
    lengths.
    """
    categories = [{'id': i, 'name': name} for i, name in zip(category_ids, classes, strict=True)]
    with path.open('w', encoding='utf-8') as file:
        file.write(f'{{"info": {json.dumps(INFO)},\n"categories": {json.dumps(categories)},\n"images": [')
        for number, record in enumerate(records(), start=1):
            image: dict[str, Any] = {'id': number, 'file_name': record.name, 'height': record.height,
                                     'width': record.width, 'path': record.path}
            if record.frame is not None:
                image['frame'] = record.frame
            file.write((',\n' if number > 1 else '\n') + json.dumps(image))
        file.write('\n],\n"annotations": [')
        count = 0
        for number, record in enumerate(records(), start=1):
            for index, ((x1, y1, x2, y2), score, label) in enumerate(zip(
                    record.boxes, record.scores, record.labels, strict=True)):
                count += 1
                box = [round(value, 2) for value in (x1, y1, x2 - x1, y2 - y1)]
                annotation = {'id': count, 'image_id': number, 'category_id': category_ids[label], 'bbox': box,
                              'area': round(box[2] * box[3], 2), 'iscrowd': 0, 'score': score}
                if record.masks:
                    from sparse_rcnn_mm.datasets.masks import area  # imports PyTorch
                    mask = {'size': [record.height, record.width], 'counts': record.masks[index]}
                    annotation.update(segmentation=mask, area=area(mask))
                file.write((',\n' if count > 1 else '\n') + json.dumps(annotation))
        file.write('\n]}\n')


def write_csv(path: Path, records: Records, classes: Sequence[str], category_ids: Sequence[int]) -> None:
    """Write a table with one row per detection. Text that looks like a formula gets an apostrophe in front."""
    with path.open('w', newline='', encoding='utf-8', errors='backslashreplace') as file:
        rows = csv.writer(file)
        rows.writerow(['image', 'frame', 'class', 'score', 'x1', 'y1', 'x2', 'y2'])
        for record in records():
            frame = '' if record.frame is None else record.frame
            for box, score, label in zip(record.boxes, record.scores, record.labels, strict=True):
                rows.writerow([_cell(record.name), frame, _cell(classes[label]), f'{score:.4f}',
                               *(f'{value:.1f}' for value in box)])


def _cell(text: str) -> str:
    return f"'{text}" if text.startswith(_FORMULA) else text


def write_yolo(path: Path, records: Records, classes: Sequence[str], category_ids: Sequence[int]) -> None:
    """Write a folder with one txt file per image, with lines `class x y width height` relative to the image's size.

    The folder has the same subfolders as the images. `classes.txt` lists the classes. YOLO identifies images by their
    names without the suffix. If two images have the same stem, their files keep the suffix, and a message says so.
    """
    path.mkdir(exist_ok=True)
    (path / 'classes.txt').write_text(''.join(f'{one_line(name)}\n' for name in classes), encoding='utf-8')
    stems = Counter(_stem(record).casefold() for record in records())
    stems['classes'] += 1
    taken = {stem for stem, count in stems.items() if count == 1}
    several = []
    for record in records():
        lines = [f'{label} {(x1 + x2) / 2 / record.width:.6f} {(y1 + y2) / 2 / record.height:.6f} '
                 f'{(x2 - x1) / record.width:.6f} {(y2 - y1) / record.height:.6f}\n'
                 for (x1, y1, x2, y2), label in zip(record.boxes, record.labels, strict=True)]
        stem = _stem(record)
        if stems[stem.casefold()] > 1:
            name = record.name if record.frame is None else f'{record.name}_{record.frame:06d}'
            stem = unused_name(name, taken)
            several.append(stem)
        target = path / f'{stem}.txt'
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(''.join(lines), encoding='utf-8')
    if several:
        say(f'{path}: {len(several)} label files have the name of their image with its type, such as {several[0]}.txt, '
            'because without it two files would be of one name. Programs for YOLO will not find their images')


def _stem(record: Record) -> str:
    """Return the record's name without its suffix. Frames of a video are numbered, so that each has its own file."""
    stem = str(Path(record.name).with_suffix(''))
    return stem if record.frame is None else f'{stem}_{record.frame:06d}'


def _of_images(records: Records, path: Path) -> Iterator[Record]:
    """Yield the records of images, and report how many video frames are left out."""
    frames = 0
    for record in records():
        if record.frame is None:
            yield record
        frames += record.frame is not None
    if frames:
        say(f'{path}: {frames} frames of videos are left out, as this form is for image files')


def write_label_studio(path: Path, records: Records, classes: Sequence[str], category_ids: Sequence[int]) -> None:
    """Write tasks with predictions for Label Studio (rectangles in percent of the image).

    Images are local files, with URLs relative to the root of the file system.
    """
    with path.open('w', encoding='utf-8') as file:
        file.write('[')
        for number, record in enumerate(_of_images(records, path)):
            found = zip(record.boxes, record.scores, record.labels, strict=True)
            result = [{'type': 'rectanglelabels', 'from_name': 'label', 'to_name': 'image', 'score': score,
                       'original_width': record.width, 'original_height': record.height, 'image_rotation': 0,
                       'value': {'x': 100 * x1 / record.width, 'y': 100 * y1 / record.height,
                                 'width': 100 * (x2 - x1) / record.width, 'height': 100 * (y2 - y1) / record.height,
                                 'rotation': 0, 'rectanglelabels': [classes[label]]}}
                      for (x1, y1, x2, y2), score, label in found]
            file_path = os.fsencode(Path(record.path).absolute().as_posix())
            image = f'/data/local-files/?d={quote(file_path.lstrip(b"/"))}'
            task = {'data': {'image': image}, 'predictions': [{'model_version': INFO['maker'], 'result': result}]}
            file.write((',\n' if number else '\n') + json.dumps(task))
        file.write('\n]\n')


def write_cvat(path: Path, records: Records, classes: Sequence[str], category_ids: Sequence[int]) -> None:
    """Write boxes in the format "CVAT for images 1.1", which CVAT imports as the annotations of a task.

    Images are named by their path relative to the input folder, as in a task created from that folder.
    """
    with path.open('w', encoding='utf-8') as file:
        file.write('<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n  <version>1.1</version>\n')
        labels = ''.join(f'<label><name>{escape(_NOT_XML.sub("?", name))}</name></label>' for name in classes)
        file.write(f'  <meta><task><mode>annotation</mode><labels>{labels}</labels></task></meta>\n')
        for number, record in enumerate(_of_images(records, path)):
            file.write(f'  <image id="{number}" name={_attribute(record.name)} width="{record.width}" '
                       f'height="{record.height}">\n')
            for (x1, y1, x2, y2), label in zip(record.boxes, record.labels, strict=True):
                file.write(f'    <box label={_attribute(classes[label])} source="auto" occluded="0" xtl="{x1}" '
                           f'ytl="{y1}" xbr="{x2}" ybr="{y2}" z_order="0"/>\n')
            file.write('  </image>\n')
        file.write('</annotations>\n')


def _attribute(text: str) -> str:
    """Quote a value for XML. Characters that XML does not allow become question marks."""
    return quoteattr(_NOT_XML.sub('?', text))


# The name of a format -> what follows the stem of the output path, and the function that writes it.
FORMATS: dict[str, tuple[str, Callable[[Path, Records, Sequence[str], Sequence[int]], None]]] = {
    'coco': ('.json', write_coco),
    'csv': ('.csv', write_csv),
    'yolo': ('_yolo', write_yolo),
    'label-studio': ('_label_studio.json', write_label_studio),
    'cvat': ('_cvat.xml', write_cvat),
}
