"""The detections on each image of a data set, next to its ground truth."""
from __future__ import annotations

import itertools
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.dataset import BaseDataset

from sparse_rcnn_mm.checkpoints import load_data_pickle
from sparse_rcnn_mm.datasets.coco_json import read_coco_json
from sparse_rcnn_mm.datasets.masks import encode_segmentation, lacks_mask
from sparse_rcnn_mm.errors import UserError, in_short
from sparse_rcnn_mm.terminal import shell_word


@dataclass(frozen=True)
class ImageRecord:
    """Detections (D) and ground truth (G) of one image; boxes are x1, y1, x2, y2 in pixels of the image file.

    Attributes:
        boxes, scores, labels: (D, 4), (D,), (D,), best score first.
        gt_boxes, gt_labels: (G, 4), (G,).
        gt_ignored: (G,) whether it is a crowd. Detections on crowds count as neither correct nor wrong.
        masks: run lengths of each detection; None if the model has no masks.
    """
    image_id: int
    path: str
    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    gt_boxes: np.ndarray
    gt_labels: np.ndarray
    gt_ignored: np.ndarray
    masks: tuple[dict[str, Any], ...] | None = None

    def above(self, score: float) -> ImageRecord:
        """The record with only the detections whose score is at least `score`."""
        kept = self.scores >= score
        masks = None if self.masks is None else tuple(itertools.compress(self.masks, kept))
        return replace(self, boxes=self.boxes[kept], scores=self.scores[kept], labels=self.labels[kept], masks=masks)


@dataclass(frozen=True)
class EvaluatedData:
    """The images that were tested.

    Attributes:
        classes: name of each label.
        cat_ids: category id of each label in `coco`.
        coco: the annotation file, restricted to these images and classes.
    """
    classes: tuple[str, ...]
    cat_ids: tuple[int, ...]
    coco: dict[str, list[dict[str, Any]]]
    records: list[ImageRecord]

    @property
    def has_masks(self) -> bool:
        """Whether the detections and the annotations have masks, so that mask AP can be computed."""
        return (all(record.masks is not None for record in self.records)
                and not all(lacks_mask(annotation.get('segmentation')) for annotation in self.coco['annotations']))


def evaluated_data(dataset: BaseDataset, found: Mapping[int, Mapping[str, Any]]) -> EvaluatedData:
    """Put the detections of each image next to the ground truth of a `CocoDataset`.

    Args:
        found: image id -> `bboxes`, `scores`, `labels`, and of a model with masks `masks`, as run lengths.

    Raises:
        UserError: the data set is not in COCO format, the detections belong to other images, or a mask is invalid.
    """
    if not hasattr(dataset, 'cat_ids'):
        raise UserError(f'only a data set in COCO format can be analyzed, not {type(dataset).__name__}')
    coco = read_coco_json(dataset.ann_file, True, 'set test_dataloader.dataset.ann_file', dataset.backend_args)
    infos = {info['img_id']: info for info in map(dataset.get_data_info, range(len(dataset)))}
    if unknown := [image_id for image_id in found if image_id not in infos]:
        raise UserError(f'the detections belong to another data set: {dataset.ann_file} has no image with the id '
                        f'{unknown[0]}; pass the --config or --data that they were made with')
    labels = [int(label) for one in found.values() for label in np.asarray(one['labels']).reshape(-1)]
    if labels and not 0 <= min(labels) <= max(labels) < len(dataset.cat_ids):
        raise UserError(f'the detections are of other classes than the {len(dataset.cat_ids)} of {dataset.ann_file}; '
                        'pass the --config or --data that they were made with')
    label_of = {category_id: label for label, category_id in enumerate(dataset.cat_ids)}
    annotations: dict[int, list[dict]] = defaultdict(list)
    for annotation in coco['annotations']:
        if annotation['category_id'] in label_of and annotation['image_id'] in found:
            annotations[annotation['image_id']].append(annotation)
    records = [record_of(image_id, infos[image_id]['img_path'], found[image_id], annotations[image_id], label_of,
                         _masks(found[image_id], infos[image_id]))
               for image_id in infos if image_id in found]
    kept = {'images': [image for image in coco['images'] if image['id'] in found],
            'categories': [category for category in coco['categories'] if category['id'] in label_of],
            'annotations': [annotation for group in annotations.values() for annotation in group]}
    return EvaluatedData(tuple(dataset.metainfo['classes']), tuple(dataset.cat_ids), kept, records)


def record_of(image_id: int, path: str, found: Mapping[str, Any], annotations: list[dict],
              label_of: Mapping[int, int], masks: Sequence[dict[str, Any]] | None = None) -> ImageRecord:
    """The record of one image.

    Args:
        found: `bboxes`, `scores` and `labels`.
        annotations, label_of: the COCO annotations, and the label of each category id.
        masks: run lengths of each detection, if there are any.
    """
    scores = np.asarray(found['scores'], dtype=np.float64).reshape(-1)
    order = np.argsort(-scores, kind='stable')
    gt_boxes = np.array([annotation['bbox'] for annotation in annotations], dtype=np.float64).reshape(-1, 4)
    gt_boxes[:, 2:] += gt_boxes[:, :2]
    return ImageRecord(
        image_id, path, np.asarray(found['bboxes'], dtype=np.float64).reshape(-1, 4)[order], scores[order],
        np.asarray(found['labels'], dtype=int).reshape(-1)[order], gt_boxes,
        np.array([label_of[annotation['category_id']] for annotation in annotations], dtype=int),
        np.array([bool(annotation.get('iscrowd')) for annotation in annotations], dtype=bool),
        None if masks is None else tuple(masks[index] for index in order))


def _masks(found: Mapping[str, Any], info: Mapping[str, Any]) -> list[dict[str, Any]] | None:
    try:
        return [encode_segmentation(mask, info['height'], info['width']) for mask in found['masks']] \
            if 'masks' in found else None
    except ValueError as error:
        raise UserError(f'the mask of a detection in {info["img_path"]} {error}; pass the --config or --data that the '
                        'detections were made with') from error


def by_image(predictions: Iterable[Mapping[str, Any]]) -> dict[int, Mapping[str, Any]]:
    """Index the predictions that `sparse-rcnn test --out` writes by image id."""
    return {int(prediction['img_id']): prediction['pred_instances'] for prediction in predictions}


def read_predictions(path: str | Path) -> list[dict[str, Any]]:
    """Read a file that `sparse-rcnn test --out` wrote. No code in it is run.

    Raises:
        UserError: the file is missing, or has another format.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f'results file not found: {path}; it is written by: sparse-rcnn test CHECKPOINT --out '
                        + shell_word(path, 'FILE'))
    try:
        predictions = load_data_pickle(path.read_bytes())
        for found in by_image(predictions).values():
            _check(found)
    except Exception as error:  # a damaged pickle can raise anything
        raise UserError(f'{path} is not a results file of sparse-rcnn test --out: {type(error).__name__} '
                        f'{in_short(error)}') from error
    return predictions


def _check(found: Mapping[str, Any]) -> None:
    """Raise ValueError if these are not the detections of an image."""
    boxes, scores = (np.asarray(found[key], dtype=np.float64) for key in ('bboxes', 'scores'))
    labels = np.asarray(found['labels'])
    if boxes.size != 4 * scores.size or labels.size != scores.size or (labels.size and labels.dtype.kind not in 'iu'):
        raise ValueError('the numbers of boxes, scores and labels differ')
    if 'masks' in found and not (isinstance(found['masks'], list) and len(found['masks']) == scores.size):
        raise ValueError('the numbers of masks and scores differ')
    if not (np.isfinite(boxes).all() and np.isfinite(scores).all()):
        raise ValueError('a box or score is not finite')


def write_json(path: Path, content: object) -> None:
    """Write numbers as standard JSON. JSON has no nan, so nan becomes null."""
    path.write_text(json.dumps(_plain(content), indent=1))


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [_plain(item) for item in value]
    if isinstance(value, (float, np.floating)):
        return round(float(value), 5) if np.isfinite(value) else None
    return int(value) if isinstance(value, np.integer) else value
