"""Builds pycocotools' index of the ground truth from columns instead of the annotation file."""
from __future__ import annotations

import contextlib
import io

from mmdet.datasets.api_wrappers import COCO

from sparse_rcnn_mm.datasets.coco_columns import CROWD, IGNORED, CocoColumns


def coco_api(columns: CocoColumns) -> COCO:
    """Build an index of all boxes, without polygons. Annotations of an image keep the order of the file."""
    api = COCO()
    image_ids = columns.image_ids.tolist()
    category_ids = [category['id'] for category in columns.header['categories']]
    annotations = []
    for image, image_id in enumerate(image_ids):
        rows = columns.annotations(image)
        annotations += [
            {'id': number, 'image_id': image_id, 'category_id': category_ids[category], 'bbox': box, 'area': area,
             'iscrowd': int(bool(flags & CROWD)), 'ignore': int(bool(flags & IGNORED))}
            for number, category, box, area, flags in zip(
                columns.annotation_ids[rows].tolist(), columns.categories[rows].tolist(),
                columns.boxes[rows].tolist(), columns.areas[rows].tolist(), columns.flags[rows].tolist(), strict=True)]
    api.dataset = {
        'images': [{'id': image_id, 'file_name': columns.name(image), 'width': width, 'height': height}
                   for image, (image_id, (width, height)) in enumerate(zip(image_ids, columns.sizes.tolist(),
                                                                          strict=True))],
        'categories': [dict(category) for category in columns.header['categories']], 'annotations': annotations}
    with contextlib.redirect_stdout(io.StringIO()):
        api.createIndex()
    api.img_ann_map, api.cat_img_map = api.imgToAnns, api.catToImgs
    return api
