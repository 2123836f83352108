"""Draws each image three times: with the detections of A, those of B, and the ground truth."""
from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image

from sparse_rcnn_mm.visualization import Mark, draw_boxes
from sparse_rcnn_mm.visualization.masks import draw_masks

from ..error_pictures import picture_of_size, tint
from ..records import ImageRecord
from .comparison import Comparison

# Marks on a detection: whether the other model has it too.
COLORS = {'both': (44, 160, 44), 'only here': (255, 127, 14), 'other class': (148, 103, 189)}
TRUE, IGNORED = (31, 119, 180), (150, 150, 150)


def draw_pictures(comparison: Comparison, index: int, side: int = 480) -> list[Image.Image]:
    """Draw the detections of A, the detections of B, and the ground truth if there is any, in a picture each."""
    one, records = comparison.agreements[index], comparison.records(index)
    drawn = [_draw(record, comparison.classes.names,
                   {'only here': one.only[letter], 'other class': one.other_class[:, letter],
                    'both': one.both[:, letter]}, side)
             for letter, record in enumerate(records)]
    if not comparison.subject.annotated:
        return drawn
    bitmaps = comparison.subject.bitmaps(records[0].image_id) if any(one.masks for one in comparison.sides) else {}
    return [*drawn, _draw_truth(records[0], comparison.classes.names, bitmaps, side)]


def _draw(record: ImageRecord, names: Sequence[str], kinds: dict[str, np.ndarray], side: int) -> Image.Image:
    picture, factor = picture_of_size(record.path, side)
    order = [(kind, int(i)) for kind, which in kinds.items() for i in which]
    tint(picture, record, [i for _, i in order], [COLORS[kind] for kind, _ in order])
    return draw_boxes(picture, [
        Mark(record.boxes[i] * factor, COLORS[kind], f'{names[record.labels[i]]} {record.scores[i]:.2f}')
        for kind, i in order])


def _draw_truth(record: ImageRecord, names: Sequence[str], bitmaps: Mapping[int, np.ndarray],
                side: int) -> Image.Image:
    picture, factor = picture_of_size(record.path, side)
    if bitmaps:
        draw_masks(picture, np.stack(list(bitmaps.values())).astype(bool),
                   [IGNORED if record.gt_ignored[index] else TRUE for index in bitmaps])
    return draw_boxes(picture, [Mark(box * factor, IGNORED if ignored else TRUE, names[label])
                                for box, label, ignored in zip(record.gt_boxes, record.gt_labels, record.gt_ignored,
                                                               strict=True)])
