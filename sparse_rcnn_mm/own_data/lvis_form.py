"""Reads data sets in LVIS JSON: COCO, except that `coco_url` names the image, and that there are no crowds."""
from __future__ import annotations

from pathlib import Path
from typing import Any

from sparse_rcnn_mm.datasets.scan import Scan

from . import coco_form
from .raw_data import RawData

NAME = 'LVIS JSON'


def recognize(scan: Scan) -> list[Path]:
    """Return the JSON files with COCO's keys that also list the classes known to be absent from an image."""
    return [path for path in scan.with_suffix('.json') if coco_form.is_lvis(path)]


def read(scan: Scan, paths: list[Path]) -> RawData:
    """Read a data set with one JSON file per split."""
    data = coco_form.read(scan, paths, NAME, _as_coco)
    data.notes.append('LVIS annotates only some classes of each image; the COCO metric counts detections of the others '
                      'as false, so AP is lower than by the rules of LVIS')
    return data


def _as_coco(content: dict[str, Any]) -> None:
    for image in content['images']:
        if isinstance(image, dict) and 'file_name' not in image and isinstance(image.get('coco_url'), str):
            image['file_name'] = '/'.join(image['coco_url'].split('/')[-2:])  # train2017/000000391895.jpg
