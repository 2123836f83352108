"""Normalizes COCO JSON entries as annotation tools write them: integer ids, one box each, 0 or 1 for `iscrowd`.

Entries that cannot be repaired stay unchanged; `entry_faults` reports them.
"""
from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import numpy as np
from pycocotools import mask

from sparse_rcnn_mm.datasets.coco_json import is_number
from sparse_rcnn_mm.datasets.masks import encode_segmentation

from .raw_data import turned
from .text import flag, name_fault

_KEYS = {'categories': ('id',), 'images': ('id', 'width', 'height'), 'annotations': ('id', 'image_id', 'category_id')}


def tidy(coco: dict) -> Iterator[tuple[str, int, str]]:
    """Normalize the entries in place; yield (list name, position, problem) for what `entry_faults` cannot see."""
    for key, names in _KEYS.items():
        for entry in filter(_is_entry, coco[key]):
            entry.update({name: whole(entry[name]) for name in names if name in entry})
    sizes = {image['id']: image for image in coco['images'] if _is_entry(image) and isinstance(image.get('id'), int)}
    for position, annotation in enumerate(coco['annotations']):
        if _is_entry(annotation):
            yield from (('annotations', position, fault) for fault in _tidy_annotation(annotation, sizes))
    for key in ('categories', 'images'):
        for position, entry in enumerate(coco[key]):
            name = entry.get('name' if key == 'categories' else 'file_name') if _is_entry(entry) else None
            if isinstance(name, str) and (fault := name_fault(name)):
                yield key, position, f'has a name that {fault}'


def _tidy_annotation(annotation: dict, images: dict[int, dict]) -> Iterator[str]:
    for key in ('iscrowd', 'ignore'):
        value = flag(annotation.get(key))
        if value is None:
            yield f"needs 0 or 1 as '{key}', not {str(annotation[key])[:50]!r}"
        annotation[key] = int(value or 0)
    if not is_number(annotation.get('area')):
        annotation.pop('area', None)
    if not annotation.get('bbox') or annotation['bbox'] == [0, 0, 0, 0]:
        image_id = annotation.get('image_id')
        image = images.get(image_id, {}) if isinstance(image_id, int) else {}
        annotation['bbox'] = box_of(annotation.get('segmentation'), image) or annotation.get('bbox') or None


def turn_boxes(coco: dict) -> bool:
    """Replace boxes with CVAT's attribute `rotation`, in degrees, by the upright boxes around them.

    Returns whether there is any. CVAT writes the box before its rotation: https://github.com/cvat-ai/cvat/issues/4745
    """
    found = False
    for annotation in coco['annotations']:
        attributes = annotation.get('attributes')
        degrees: Any = attributes.get('rotation') if isinstance(attributes, dict) else None
        if is_number(degrees) and degrees % 360:
            x, y, width, height = annotation['bbox']
            x1, y1, x2, y2 = turned((x, y, x + width, y + height), degrees)
            annotation['bbox'], found = [x1, y1, x2 - x1, y2 - y1], True
    return found


def _is_entry(entry: object) -> bool:
    return isinstance(entry, dict)


def whole(value: Any) -> Any:
    """Convert 1.0 and '1' to the integer 1; return anything else unchanged."""
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) < 16:
        return int(value)
    return int(value) if isinstance(value, float) and is_number(value) and value.is_integer() else value


def box_of(outline: Any, image: dict) -> list[float] | None:
    """The bounding box of polygons or of a run-length mask; None if there is neither."""
    if isinstance(outline, list):
        numbers = [value for polygon in outline if isinstance(polygon, list) and len(polygon) % 2 == 0
                   for value in polygon]
        if not numbers or not all(map(is_number, numbers)):
            return None
        low, high = (choose(np.reshape(numbers, (-1, 2)), axis=0).tolist() for choose in (np.min, np.max))
        return [*low, high[0] - low[0], high[1] - low[1]]
    if isinstance(outline, dict) and isinstance(outline.get('counts'), (str, list)):
        return _box_of_mask(outline, image)
    return None


def _box_of_mask(runs: dict, image: dict) -> list[float] | None:
    size = image.get('height'), image.get('width')
    if not all(type(side) is int and side > 0 for side in size):
        return None
    try:
        return mask.toBbox(encode_segmentation(runs, *size)).tolist()  # type: ignore[arg-type]
    except ValueError:
        return None


def doubtful_boxes(coco: dict) -> str:
    """Why the boxes are probably not x, y, width, height in pixels, as the end of a sentence; empty if they look right.

    A few odd boxes are tolerated. The format is doubtful if half of the boxes are smaller than a pixel, or if a tenth
    reach beyond their images while nearly all fit when read as x1, y1, x2, y2.
    """
    sizes = {image['id']: (image['width'], image['height']) for image in coco['images']}
    boxes = [(*annotation['bbox'], *sizes[annotation['image_id']]) for annotation in coco['annotations']
             if any(annotation['bbox'])]
    if not boxes:
        return ''
    x, y, w, h, width, height = np.array(boxes, dtype=float).T
    small = (np.maximum(x + w, w) <= 1.001) & (np.maximum(y + h, h) <= 1.001) & (np.minimum(width, height) > 2)
    if small.mean() >= 0.5:
        return 'are between 0 and 1, relative to the image size: COCO needs pixels'
    beyond = (x + w > width + 1) | (y + h > height + 1)
    corners = (w > x) & (h > y) & (w <= width + 1) & (h <= height + 1)
    if beyond.mean() >= 0.1 and corners.mean() >= 0.95:
        return ('look like x1, y1, x2, y2, but COCO needs x, y, width, height: read that way, '
                f'{int(beyond.sum())} of {len(beyond)} boxes reach beyond their images')
    return ''


def same_names(coco: dict) -> Iterator[str]:
    """Names shared by several images or by several categories with boxes, each as the end of a sentence."""
    used = {annotation.get('category_id') for annotation in coco['annotations'] if _is_entry(annotation)
            and isinstance(annotation.get('category_id'), int)}
    categories = [(entry.get('name'), entry['id']) for entry in filter(_is_entry, coco['categories'])
                  if isinstance(entry.get('id'), int) and entry['id'] in used]
    images = [(entry.get('file_name'), entry.get('id')) for entry in filter(_is_entry, coco['images'])]
    for what, pairs in (('categories', categories), ('images', images)):
        ids: dict[str, list[Any]] = defaultdict(list)
        for name, number in pairs:
            if isinstance(name, str):
                ids[name].append(number)
        for name, several in ids.items():
            if len(several) > 1:
                yield (f'has {len(several)} {what} called {name!r} (ids {", ".join(map(str, several[:5]))}): '
                       'which boxes belong to which is ambiguous')
