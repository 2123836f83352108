"""Builds pycocotools' index of the ground truth from columns instead of the annotation file."""
from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from typing import Any

from mmdet.datasets.api_wrappers import COCO

from sparse_rcnn_mm.datasets.coco_columns import CROWD, IGNORED, CocoColumns

from .mask_truth import mask_truth


def coco_api(columns: CocoColumns, masks: bool = False) -> COCO:
    """Build an index of all boxes. Annotations of an image keep the order of the file.

    Args:
        masks: with the masks of `mask_truth`, without which pycocotools fails. The columns must have segmentations.

    Raises:
        UserError: a segmentation is invalid.
    """
    api = COCO()
    api.dataset = {
        'images': [{'id': image_id, 'file_name': columns.name(image), 'width': width, 'height': height}
                   for image, (image_id, (width, height)) in enumerate(zip(
                       columns.image_ids.tolist(), columns.sizes.tolist(), strict=True))],
        'categories': [dict(category) for category in columns.header['categories']],
        'annotations': [*_annotations(columns, masks)]}
    if masks:
        api.dataset['annotations'] = mask_truth(api.dataset)
    with contextlib.redirect_stdout(io.StringIO()):
        api.createIndex()
    api.img_ann_map, api.cat_img_map = api.imgToAnns, api.catToImgs
    return api


def _annotations(columns: CocoColumns, masks: bool) -> Iterator[dict[str, Any]]:
    category_ids = [category['id'] for category in columns.header['categories']]
    for image, image_id in enumerate(columns.image_ids.tolist()):
        rows = columns.annotations(image)
        for row, number, category, box, area, flags in zip(
                range(rows.start, rows.stop), columns.annotation_ids[rows].tolist(), columns.categories[rows].tolist(),
                columns.boxes[rows].tolist(), columns.areas[rows].tolist(), columns.flags[rows].tolist(), strict=True):
            yield {'id': number, 'image_id': image_id, 'category_id': category_ids[category], 'bbox': box,
                   'area': area, 'iscrowd': int(bool(flags & CROWD)), 'ignore': int(bool(flags & IGNORED)),
                   **({'segmentation': columns.segmentation(row)} if masks else {})}
