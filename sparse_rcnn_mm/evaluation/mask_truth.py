"""The masks of the ground truth as run lengths, as pycocotools needs them to compute mask AP."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sparse_rcnn_mm.datasets.masks import encode_segmentation, lacks_mask
from sparse_rcnn_mm.errors import UserError


def mask_truth(coco: Mapping[str, Sequence[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Copy the annotations of a COCO file, with masks as run lengths that pycocotools can use.

    Boxes without a mask become crowds. Polygons of fewer than three points are no mask, as in training.

    Raises:
        UserError: a segmentation is invalid.
    """
    images = {image['id']: image for image in coco['images']}
    return [_with_run_lengths(annotation, images[annotation['image_id']]) for annotation in coco['annotations']]


def _with_run_lengths(annotation: dict[str, Any], image: Mapping[str, Any]) -> dict[str, Any]:
    size = image['height'], image['width']
    try:
        if not lacks_mask(annotation.get('segmentation')):
            return {**annotation, 'segmentation': encode_segmentation(annotation['segmentation'], *size)}
        x, y, width, height = annotation['bbox']
        left, top, right, bottom = np.clip([x, y, x + width, y + height], 0, [*size[::-1]] * 2).tolist()
        corners = [left, top, right, top, right, bottom, left, bottom]
        return {**annotation, 'iscrowd': 1, 'segmentation': encode_segmentation([corners], *size)}
    except ValueError as error:
        raise UserError(f'{annotation.get("source") or "annotation " + str(annotation["id"])} of image '
                        f'{image.get("file_name", image["id"])}: its segmentation {error}') from error
