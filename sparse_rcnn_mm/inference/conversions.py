"""Converts the detections of one image for other libraries."""
from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from sparse_rcnn_mm.errors import UserError

if TYPE_CHECKING:
    from .detections import ImageDetections


def to_supervision(detections: ImageDetections) -> Any:
    """Convert to `supervision.Detections`, with the class names as `data['class_name']`.

    Raises:
        UserError: supervision is not installed.

    Example:
        >>> picture = supervision.BoxAnnotator().annotate(image, detector(image).to_supervision())
    """
    try:
        import supervision
    except ImportError as error:
        raise UserError('to_supervision() needs another package: pip install supervision') from error
    return supervision.Detections(xyxy=detections.boxes, confidence=detections.scores, class_id=detections.labels,
                                  mask=detections.masks, data={'class_name': np.array(detections.names, dtype=str)})


def to_coco(detections: ImageDetections, image_id: int = 1,
            category_ids: Sequence[int] | None = None) -> list[dict[str, Any]]:
    """Convert to COCO's results format: one dict per detection, with `bbox` as x, y, width, height.

    Masks become `segmentation`, as compressed run lengths.

    Args:
        detections: the detections of one image.
        image_id: the id of the image in the COCO file.
        category_ids: the id of each class in the COCO file, such as `Detector.category_ids`. Default: 1, 2, ...
    """
    rows = zip(detections.boxes.tolist(), detections.scores.tolist(), detections.labels.tolist(), strict=True)
    found = [{'image_id': image_id, 'category_id': label + 1 if category_ids is None else category_ids[label],
              'bbox': [x1, y1, x2 - x1, y2 - y1], 'score': score} for (x1, y1, x2, y2), score, label in rows]
    if detections.masks is not None:
        from sparse_rcnn_mm.datasets.masks import run_lengths  # imports PyTorch
        for one, mask in zip(found, detections.masks, strict=True):
            one['segmentation'] = run_lengths(mask)
    return found


def to_pandas(detections: ImageDetections) -> Any:
    """Convert to a `pandas.DataFrame` with one row per detection: class, score, x1, y1, x2, y2.

    Raises:
        UserError: pandas is not installed.
    """
    try:
        import pandas
    except ImportError as error:
        raise UserError('to_pandas() needs another package: pip install pandas') from error
    corners = dict(zip(('x1', 'y1', 'x2', 'y2'), detections.boxes.T, strict=True))
    return pandas.DataFrame({'class': list(detections.names), 'score': detections.scores, **corners})
