"""A look at the ground truth of a batch before it is trained on, for data sets that do not check their files."""
from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from sparse_rcnn_mm.errors import UserError
from sparse_rcnn_mm.models.box_ops import MAX_COORDINATE


def check_ground_truth(batch: Any, num_classes: int | None) -> None:
    """Refuse boxes and labels that would end in NaN or in an error inside of the model.

    Args:
        batch: what a data loader gives.
        num_classes: of the model; None if that is not known.

    Raises:
        UserError: names the image and its first bad box.
    """
    samples = batch.get('data_samples') if isinstance(batch, Mapping) else None
    for index, sample in enumerate(samples or []):
        truth = getattr(sample, 'gt_instances', None)
        if truth is None or 'bboxes' not in truth or 'labels' not in truth:
            continue
        boxes, labels = getattr(truth.bboxes, 'tensor', truth.bboxes), truth.labels
        image = getattr(sample, 'img_path', None) or f'{index + 1} of the batch'
        bad = ~(boxes.abs() <= MAX_COORDINATE).all(-1)  # true for NaN as well
        if bad.any():
            box = ', '.join(f'{value:g}' for value in boxes[bad][0].tolist())
            raise UserError(f'the ground truth of image {image} has the box [{box}], whose corners are not finite or '
                            f'beyond {MAX_COORDINATE:g} pixels: correct its annotation, or the transforms of its data '
                            'set')
        wrong = torch.zeros_like(bad) if num_classes is None else (labels < 0) | (labels >= num_classes)
        if wrong.any():
            raise UserError(f'the ground truth of image {image} has the label {int(labels[wrong][0])}, but the model '
                            f'has {num_classes} classes, counted from 0: correct the data set or the model')
