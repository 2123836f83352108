"""The masks of the ground truth as run lengths, as pycocotools needs them to compute mask AP."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sparse_rcnn_mm.datasets.masks import decode_segmentation, run_lengths
from sparse_rcnn_mm.errors import UserError


def mask_truth(coco: Mapping[str, Sequence[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Copy the annotations of a COCO file, with masks as run lengths. Boxes without a mask become crowds.

    Masks are decoded here, since pycocotools writes out of bounds if run lengths do not fit their image.

    Raises:
        UserError: a segmentation is invalid.
    """
    images = {image['id']: image for image in coco['images']}
    return [_with_run_lengths(annotation, images[annotation['image_id']]) for annotation in coco['annotations']]


def _with_run_lengths(annotation: dict[str, Any], image: Mapping[str, Any]) -> dict[str, Any]:
    height, width = image['height'], image['width']
    if not annotation.get('segmentation'):
        x, y, right, down = annotation['bbox']
        corners = [x, y, x + right, y, x + right, y + down, x, y + down]
        return {**annotation, 'iscrowd': 1, 'segmentation': run_lengths(decode_segmentation([corners], height, width))}
    try:
        bitmap = decode_segmentation(annotation['segmentation'], height, width)
    except ValueError as error:
        raise UserError(f'{annotation.get("source") or "annotation " + str(annotation["id"])} of image '
                        f'{image.get("file_name", image["id"])}: its segmentation {error}') from error
    return {**annotation, 'segmentation': run_lengths(bitmap)}
