"""Ground truth and detections of one class for each image, as input of CrowdHuman's metrics."""
from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from sparse_rcnn_mm.datasets.coco_json import is_number, read_coco_json
from sparse_rcnn_mm.errors import UserError

_NO_BOXES, _NO_SCORES = np.zeros((0, 4)), np.zeros(0)


@dataclass(frozen=True)
class CrowdImage:
    """Ground truths (G) and detections (D) of one image; boxes are x1, y1, x2, y2 in float64, not clipped.

    Attributes:
        gt_ignored: (G,) marks regions in which detections are neither correct nor wrong.
        boxes, scores: (D, 4), (D,), in the order of the input.
    """
    size: tuple[float, float]
    gt_boxes: np.ndarray
    gt_ignored: np.ndarray
    boxes: np.ndarray = field(default_factory=_NO_BOXES.copy)
    scores: np.ndarray = field(default_factory=_NO_SCORES.copy)

    @property
    def annotated(self) -> bool:
        """Whether the annotation file has any annotation for the image."""
        return len(self.gt_boxes) > 0


@dataclass(frozen=True)
class CrowdTruth:
    """An annotation file with one class.

    Attributes:
        images: the images by id. Those with annotations come first, in the order of their first annotation.
    """
    path: str
    category: Mapping[str, Any]
    images: dict[int, CrowdImage]

    def with_detections(self, found: Mapping[int, tuple[np.ndarray, np.ndarray]]) -> list[CrowdImage]:
        """Return the images with their detections.

        Args:
            found: image id -> boxes (D, 4) and scores (D,).

        Raises:
            UserError: an image is not in the file.
        """
        for image_id in found:
            if image_id not in self.images:
                raise UserError(f'there are detections on the image {image_id}, which is not in {self.path}: give the '
                                'annotation file of the images that were tested')
        return [replace(image, boxes=found[image_id][0], scores=found[image_id][1]) if image_id in found else image
                for image_id, image in self.images.items()]


def read_truth(path: str, missing_hint: str, backend_args: dict | None = None) -> CrowdTruth:
    """Read a COCO annotation file of one category. Its crowd boxes are ignored regions.

    Raises:
        UserError: the file is missing, malformed, or has several categories.
    """
    coco = read_coco_json(path, False, missing_hint, backend_args)
    if len(coco['categories']) > 1:
        names = ', '.join(str(category['name']) for category in coco['categories'][:5])
        raise UserError(f'{path} has {len(coco["categories"])} categories ({names}): AP, mMR, recall and JI of '
                        'CrowdHuman are of one class')
    by_image: dict[int, list[dict]] = {}
    for annotation in coco['annotations']:
        by_image.setdefault(annotation['image_id'], []).append(annotation)
    sizes = {image['id']: (image['width'], image['height']) for image in coco['images']}
    order = dict.fromkeys([*by_image, *sizes])
    return CrowdTruth(path, coco['categories'][0], {
        image_id: _image(sizes[image_id], by_image.get(image_id, [])) for image_id in order})


def _image(size: tuple[float, float], annotations: list[dict]) -> CrowdImage:
    return CrowdImage(size, corners([annotation['bbox'] for annotation in annotations]),
                      np.array([bool(annotation.get('iscrowd')) for annotation in annotations], dtype=bool))


def corners(boxes: Iterable[Iterable[float]]) -> np.ndarray:
    """Convert boxes from x, y, width, height to x1, y1, x2, y2: (N, 4)."""
    found = np.array([list(box) for box in boxes], dtype=np.float64).reshape(-1, 4)
    found[:, 2:] += found[:, :2]
    return found


def read_results(path: str | Path, truth: CrowdTruth) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """Read the boxes and scores in a file of COCO results, by image id.

    Raises:
        UserError: the file is missing or malformed. The message names the first invalid entry.
    """
    try:
        entries = json.loads(Path(path).read_bytes())
    except OSError as error:
        raise UserError(f'cannot read the results file {path}: {error.strerror}') from error
    except (ValueError, RecursionError) as error:
        raise UserError(f'the results file {path} is not valid JSON: {error}') from error
    if not isinstance(entries, list):
        raise UserError(f'the results file {path} holds no list of detections, but {type(entries).__name__}: COCO '
                        'results are a list of image_id, category_id, bbox and score')
    for position, fault in _entry_faults(entries, truth):
        raise UserError(f'entry {position} of the results file {path} {fault}')
    by_image: dict[int, list[dict]] = {}
    for entry in entries:
        by_image.setdefault(entry['image_id'], []).append(entry)
    return {image_id: (corners(entry['bbox'] for entry in several),
                       np.array([entry['score'] for entry in several], dtype=np.float64))
            for image_id, several in by_image.items()}


def _entry_faults(entries: list[Any], truth: CrowdTruth) -> Iterator[tuple[int, str]]:
    for position, entry in enumerate(entries):
        if not isinstance(entry, dict):
            yield position, f'is a {type(entry).__name__}, not an object'
        elif type(entry.get('image_id')) is not int:
            yield position, f"needs a whole number as 'image_id', not {entry.get('image_id')!r}"
        elif not _is_box(entry.get('bbox')):
            yield position, f"needs 'bbox' as [x, y, width, height], not {entry.get('bbox')!r}"
        elif not is_number(entry.get('score')):
            yield position, f"needs a number as 'score', not {entry.get('score')!r}"
        elif entry.get('category_id', truth.category['id']) != truth.category['id']:
            yield position, (f'has the category_id {entry["category_id"]!r}; {truth.path} has only '
                             f'{truth.category["id"]} ({truth.category["name"]})')


def _is_box(box: object) -> bool:
    return isinstance(box, list) and len(box) == 4 and all(map(is_number, box))
