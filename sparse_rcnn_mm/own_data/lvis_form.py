"""Data sets in LVIS JSON: COCO, but images are named by the end of `coco_url`, and nothing is a crowd."""
from __future__ import annotations

from pathlib import Path
from typing import Any

from sparse_rcnn_mm.datasets.scan import Scan

from . import coco_form
from .raw_data import RawData

NAME = 'LVIS JSON'


def recognize(scan: Scan) -> list[Path]:
    """JSON files of COCO that say of images which classes are not in them."""
    return [path for path in scan.with_suffix('.json') if coco_form.is_lvis(path)]


def read(scan: Scan, paths: list[Path]) -> RawData:
    """Read a data set of one JSON file a split."""
    data = coco_form.read(scan, paths, NAME, _as_coco)
    data.notes.append('LVIS names few absent classes of an image; the COCO metric takes every other class as absent '
                      'too, so that AP is lower than by the rules of LVIS')
    return data


def _as_coco(content: dict[str, Any]) -> None:
    for image in content['images']:
        if isinstance(image, dict) and 'file_name' not in image and isinstance(image.get('coco_url'), str):
            image['file_name'] = '/'.join(image['coco_url'].split('/')[-2:])  # train2017/000000391895.jpg
