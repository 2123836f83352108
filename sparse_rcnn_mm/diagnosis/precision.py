"""Computes the AP of a model on a few images."""
from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from sparse_rcnn_mm.datasets.masks import run_lengths
from sparse_rcnn_mm.evaluation.average_precision import average_precision
from sparse_rcnn_mm.evaluation.records import EvaluatedData, ImageRecord

from .images import FewImages


@torch.no_grad()
def detect(model: Any, images: FewImages) -> EvaluatedData:
    """Detect in the images with the test pipeline. Returns the detections with the ground truth."""
    training = model.training
    model.eval()
    records = []
    for batch, info in zip(images.test_batches(), images.infos, strict=True):
        found = model.test_step(batch)[0].pred_instances
        found = found[found.labels < len(images.classes)]  # a classifier may have more classes than the data
        masks = tuple(map(run_lengths, found.masks.cpu().numpy())) if 'masks' in found else None
        boxes, scores, labels = (getattr(found, name).float().cpu().numpy() for name in ('bboxes', 'scores', 'labels'))
        records.append(_record(info, boxes, scores, labels, masks))
    model.train(training)
    ids = tuple(range(1, len(images.classes) + 1))
    return EvaluatedData(images.classes, ids, _coco(images, records), records)


def ap_of(data: EvaluatedData, masks: bool = False) -> tuple[float, float]:
    """Return AP and AP50 of boxes, or of masks."""
    overall = average_precision(data, max_detections=100, masks=masks).overall
    return overall['AP'], overall['AP50']


def _record(info: dict, boxes: np.ndarray, scores: np.ndarray, labels: np.ndarray,
            masks: tuple[dict, ...] | None) -> ImageRecord:
    order = np.argsort(-scores, kind='stable')
    instances = info['instances']
    return ImageRecord(info['img_id'], info['img_path'], boxes[order].astype(float), scores[order].astype(float),
                       labels[order].astype(int), np.array([one['bbox'] for one in instances], float).reshape(-1, 4),
                       np.array([one['bbox_label'] for one in instances], int), np.zeros(len(instances), bool),
                       None if masks is None else tuple(masks[index] for index in order))


def _coco(images: FewImages, records: list[ImageRecord]) -> dict[str, list[dict[str, Any]]]:
    sides = [record.gt_boxes[:, 2:] - record.gt_boxes[:, :2] for record in records]
    boxes = [(record.image_id, box, side, label, instance.get('mask'))
             for record, size, info in zip(records, sides, images.infos, strict=True)
             for box, side, label, instance in zip(record.gt_boxes, size, record.gt_labels, info['instances'],
                                                   strict=True)]
    return {'images': [{'id': info['img_id'], 'file_name': Path(info['img_path']).name, 'width': info['width'],
                        'height': info['height']} for info in images.infos],
            'categories': [{'id': number, 'name': name} for number, name in enumerate(images.classes, start=1)],
            'annotations': [{'id': number, 'image_id': image_id, 'category_id': int(label) + 1, 'iscrowd': 0,
                             'bbox': [*map(float, box[:2]), *map(float, side)], 'area': float(side.prod()),
                             'segmentation': mask}
                            for number, (image_id, box, side, label, mask) in enumerate(boxes, start=1)]}
