"""Parses COCO JSON to columns quickly: msgspec decodes and checks types, one slice of entries at a time."""
from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import numpy as np

from .coco_columns import CROWD, IGNORED, INVALID, WITHOUT_MASK, CocoColumns
from .coco_json import LARGEST, LARGEST_ID, entry_faults, is_number

_SLICE = 20_000  # entries
# Unusual files (NaN, numbers as text, ids beyond 64 bits, ...) are left to the slower, more tolerant `read_coco_json`.
NotPlain = (msgspec.MsgspecError, ValueError, OverflowError, RecursionError)


class _Category(msgspec.Struct):
    id: int
    name: str


class _Image(msgspec.Struct, gc=False):
    id: int
    file_name: str
    width: int | float
    height: int | float


class _Annotation(msgspec.Struct, gc=False):
    id: int
    image_id: int
    category_id: int
    bbox: tuple[float, float, float, float]
    area: float | None = None
    iscrowd: int | float | bool | None = None
    ignore: int | float | bool | None = None
    segmentation: msgspec.Raw = msgspec.Raw()


class _File(msgspec.Struct):
    """The lists of the file with undecoded entries, so that they can be decoded one slice at a time."""
    images: list[msgspec.Raw]
    categories: list[_Category]
    annotations: list[msgspec.Raw] | msgspec.UnsetType = msgspec.UNSET


def decode_columns(text: Any, masks: bool = False) -> CocoColumns:
    """Parse a regular COCO file to columns. `text` is bytes or a memory map.

    Raises:
        one of `NotPlain`: the file is invalid or unusual. `read_coco_json` may still be able to read it.
    """
    file = msgspec.json.decode(text, type=_File)
    images = [image for part in _slices(file.images, list[_Image]) for image in part]
    raws = file.annotations or []
    columns = _arranged(images, file.categories, len(raws), _slices(raws, list[_Annotation]), masks)
    columns.header['annotated'] = file.annotations is not msgspec.UNSET
    return columns


def columns_of(coco: dict, masks: bool = False) -> CocoColumns:
    """Convert the result of `read_coco_json` to columns."""
    images = [_Image(int(image['id']), image['file_name'], image['width'], image['height'])
              for image in coco['images']]
    categories = [_Category(int(category['id']), category['name']) for category in coco['categories']]
    annotations = [_annotation(entry) for entry in coco['annotations']]
    columns = _arranged(images, categories, len(annotations), filter(None, [annotations]), masks)
    columns.header.update(for_metric=next(entry_faults(coco, True), None) is None, annotated=bool(coco['annotations']))
    return columns


def _annotation(entry: dict) -> _Annotation:
    area = entry.get('area')
    return _Annotation(
        int(entry['id']), int(entry['image_id']), int(entry['category_id']), tuple(map(float, entry['bbox'])),  # type: ignore[arg-type]
        area if is_number(area) else None, entry.get('iscrowd'), entry.get('ignore'),
        msgspec.Raw(msgspec.json.encode(entry.get('segmentation'))))


def _slices(entries: list[Any], kind: Any) -> Iterator[list[Any]]:
    """Decode the entries slice by slice, and drop the undecoded ones on the way to free their memory."""
    decoder = msgspec.json.Decoder(kind)
    for start in range(0, len(entries), _SLICE):
        part = entries[start:start + _SLICE]
        entries[start:start + _SLICE] = [None] * len(part)
        yield decoder.decode(b'[' + b','.join(part) + b']')


def _arranged(images: list[_Image], categories: list[_Category], count: int,
              slices: Iterator[list[_Annotation]], masks: bool) -> CocoColumns:
    """Check what types cannot express, and sort the images by name and the annotations by image."""
    header = {'first_image': images[0].file_name if images else '', 'annotated': True,
              'categories': [{'id': category.id, 'name': category.name} for category in categories]}
    image_ids = np.array([image.id for image in images], dtype=np.int64)
    order = sorted(np.argsort(image_ids, kind='stable').tolist(), key=lambda index: images[index].file_name)
    images = [images[index] for index in order]
    sizes = np.array([(image.width, image.height) for image in images])
    category_ids = np.array([category.id for category in categories], dtype=np.int64)
    _require(len(images) and len(categories) and (sizes <= LARGEST).all() and (sizes > 0).all())
    _require(all(map(_are_ids, (image_ids, category_ids))))
    _require(len({category.name for category in categories}) == len(categories))

    texts: list[bytes] = []
    found = _file_order(count, slices, texts if masks else None)
    image_of = _positions(image_ids[order], found.pop('image_id'))
    found['categories'] = _positions(category_ids, found.pop('category_id')).astype(np.int32)
    boxes, ids = found['boxes'], np.sort(found['annotation_ids'])
    _require((np.abs(boxes) <= LARGEST).all() and (boxes[:, 2:] >= 0).all() and (ids[1:] != ids[:-1]).all())
    _require(_are_ids(ids))

    by_image = np.argsort(image_of, kind='stable')
    starts = np.zeros(len(images) + 1, np.int64)
    np.cumsum(np.bincount(image_of, minlength=len(images)), out=starts[1:])
    header['for_metric'] = bool(found.pop('for_metric').all())
    for name in found:  # one column at a time, to save memory
        found[name] = found[name][by_image]
    texts = [texts[row] for row in by_image] if masks else []
    names = [image.file_name.encode('utf-8', 'surrogatepass') for image in images]
    return CocoColumns(
        image_ids=image_ids[order], sizes=sizes, names=np.frombuffer(b''.join(names), np.uint8),
        name_ends=np.cumsum([len(name) for name in names], dtype=np.int64), starts=starts, header=header,
        segmentations=np.frombuffer(b''.join(texts), np.uint8),
        segmentation_ends=np.cumsum([len(text) for text in texts], dtype=np.int64),
        **found)  # type: ignore[arg-type]


def _file_order(count: int, slices: Iterator[list[_Annotation]], texts: list[bytes] | None) -> dict[str, np.ndarray]:
    """The columns of `count` annotations in the order of the file, filled slice by slice.

    The JSON text of every segmentation is appended to `texts`, unless that is None.
    """
    columns: dict[str, np.ndarray] = {
        'annotation_ids': np.empty(count, np.int64), 'image_id': np.empty(count, np.int64),
        'category_id': np.empty(count, np.int64), 'boxes': np.empty((count, 4)), 'areas': np.empty(count),
        'flags': np.empty(count, np.uint8), 'for_metric': np.empty(count, bool)}
    start = 0
    for part in slices:
        rows = slice(start, start + len(part))
        columns['annotation_ids'][rows] = [entry.id for entry in part]
        columns['image_id'][rows] = [entry.image_id for entry in part]
        columns['category_id'][rows] = [entry.category_id for entry in part]
        columns['boxes'][rows] = [entry.bbox for entry in part]
        areas = np.array([np.nan if entry.area is None else entry.area for entry in part], float)
        areas[np.abs(areas) > LARGEST] = np.nan  # as `is_number`
        columns['areas'][rows] = areas
        columns['flags'][rows] = [_flags(entry) for entry in part]
        columns['for_metric'][rows] = ~np.isnan(areas) & [entry.iscrowd is not None for entry in part]
        if texts is not None:
            texts += [bytes(entry.segmentation) or b'null' for entry in part]
        start += len(part)
    return columns


def _flags(entry: _Annotation) -> int:
    return CROWD * bool(entry.iscrowd) | IGNORED * bool(entry.ignore) | _mask_flag(bytes(entry.segmentation))


def _mask_flag(text: bytes) -> int:
    """INVALID if there are polygons and all have fewer than three points, or half a point; else WITHOUT_MASK or 0."""
    if text[:2] == b'[[' and text[2:3] in b'-0123456789':  # usually the first polygon decides: count its commas
        commas = text.count(b',', 2, text.find(b']'))
        if commas >= 5 and commas % 2:
            return 0
    segmentation = msgspec.json.decode(text) if text else None
    if not segmentation:
        return WITHOUT_MASK
    return INVALID * (isinstance(segmentation, list) and all(
        isinstance(polygon, list) and (len(polygon) < 6 or len(polygon) % 2 == 1) for polygon in segmentation))


def _positions(known: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """The index of each of `ids` in `known`, which has no duplicates."""
    order = np.argsort(known, kind='stable')
    ordered = known[order]
    places = np.searchsorted(ordered, ids)
    _require((ordered[1:] != ordered[:-1]).all())
    _require((ordered[np.minimum(places, len(ordered) - 1)] == ids).all())
    return order[places]


def _are_ids(numbers: np.ndarray) -> bool:
    """Whether int64 numbers can be ids. np.abs of the lowest int64 is negative."""
    return bool(((numbers >= -LARGEST_ID) & (numbers <= LARGEST_ID)).all())


def _require(condition: Any) -> None:
    if not condition:
        raise ValueError('not a plain COCO file')
