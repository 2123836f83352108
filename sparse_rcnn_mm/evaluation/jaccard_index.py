"""The Jaccard index (JI) of detections in crowds: the overlap between the set of boxes and the ground truth.

Source: CrowdDet (Chu et al., "Detection in Crowded Scenes", CVPR 2020, section 5). For one image, JI = matches /
(detections + objects - matches), with a maximum matching of boxes whose IoU is at least 0.5. Details that the paper
leaves open follow its code: unmatched boxes and objects with more than half of their area in an ignored region do not
count; JI is averaged over the images that have a box or an object left; and the best of ten score thresholds is used.
"""
from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import maximum_bipartite_matching

from .crowd_files import CrowdImage
from .crowd_scores import clipped, overlaps

THRESHOLDS = tuple(0.1 * step for step in range(10))  # only detections above the threshold count


def jaccard_index(images: Sequence[CrowdImage], iou_thr: float = 0.5) -> tuple[float, float]:
    """Return the highest mean JI over the images, and its score threshold. nan and 0 if there is nothing to compare.

    An image without annotations counts only if there is a detection on it. Its JI is 0.
    """
    numbers = np.array([_by_threshold(image, iou_thr) for image in images]).reshape(-1, len(THRESHOLDS))
    counted = (~np.isnan(numbers)).sum(axis=0)
    means = np.nansum(numbers, axis=0)[counted > 0] / counted[counted > 0]
    if not len(means):
        return float('nan'), 0.
    best = int(means.argmax())
    return float(means[best]), np.array(THRESHOLDS)[counted > 0][best]


def _by_threshold(image: CrowdImage, iou_thr: float) -> list[float]:
    """Compute the JI of one image at each threshold. nan if no box and no object is left."""
    boxes, truths = clipped(image.boxes, image.size), clipped(image.gt_boxes, image.size)
    objects, ignored = truths[~image.gt_ignored], truths[image.gt_ignored]
    iou, _ = overlaps(boxes, objects)
    boxes_inside, objects_inside = (np.any(overlaps(some, ignored)[1] > iou_thr, axis=1) for some in (boxes, objects))
    found = []
    for threshold in THRESHOLDS:
        kept = image.scores > threshold
        found.append(_index(iou[kept] >= iou_thr, boxes_inside[kept], objects_inside))
    return found


def _index(near: np.ndarray, boxes_inside: np.ndarray, objects_inside: np.ndarray) -> float:
    """JI of D boxes and G objects. `near` (D, G) pairs may be matched. Those `inside` count only if matched."""
    object_of = np.full(len(near), -1)
    if near.size:
        object_of = maximum_bipartite_matching(csr_matrix(near), perm_type='column')
    box_matched = object_of >= 0
    object_matched = np.isin(np.arange(len(objects_inside)), object_of)
    matched = int(box_matched.sum())
    union = (~boxes_inside | box_matched).sum() + (~objects_inside | object_matched).sum() - matched
    return matched / union if union else float('nan')
