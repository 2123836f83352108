"""Pictures of images with the errors drawn on them."""
from __future__ import annotations

import base64
import io
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageColor

from sparse_rcnn_mm.datasets.masks import decode_run_lengths
from sparse_rcnn_mm.datasets.read_image import read_image
from sparse_rcnn_mm.visualization import Mark, draw_boxes, enlarged
from sparse_rcnn_mm.visualization.masks import draw_masks

from .analysis import Analysis
from .matching import Kind
from .plots import COLORS
from .records import ImageRecord


def draw_errors(analysis: Analysis, index: int, side: int = 640) -> Image.Image:
    """Draw one image: wrong detections and missed objects in the color of their kind, correct ones without text.

    Masks of detections are tinted in the same color.

    Raises:
        UserError: the image cannot be read.
    """
    record, matched = analysis.records[index], analysis.matches[index]
    classes = analysis.data.classes
    picture, factor = picture_of_size(record.path, side)
    wrong: list[Mark] = []
    right: list[Mark] = []
    for box, score, label, kind, gt in zip(record.boxes, record.scores, record.labels, matched.kinds, matched.gt,
                                           strict=True):
        if kind == Kind.IGNORED:
            continue
        name = Kind(kind).name.lower()
        text = f'{classes[label]} {score:.2f}'
        if kind == Kind.CLASS:
            text += f', is {classes[record.gt_labels[gt]]}'
        mark = Mark(box * factor, _color(name), '' if kind == Kind.CORRECT else text)
        (right if kind == Kind.CORRECT else wrong).append(mark)
    counted = [index for index, kind in enumerate(matched.kinds) if kind != Kind.IGNORED]
    tint(picture, record, counted, [_color(Kind(matched.kinds[index]).name.lower()) for index in counted])
    missed = [Mark(record.gt_boxes[gt] * factor, _color('missed'), classes[record.gt_labels[gt]])
              for gt in matched.missed.nonzero()[0]]
    return draw_boxes(picture, [*wrong, *missed, *right])


def tint(picture: Image.Image, record: ImageRecord, which: Sequence[int],
         colors: Sequence[tuple[int, int, int]]) -> None:
    """Tint the masks of these detections in place. Without masks, do nothing."""
    if record.masks is not None and len(which):
        draw_masks(picture, np.stack([decode_run_lengths(record.masks[index]) for index in which]).astype(bool), colors)


def as_data_uri(picture: Image.Image) -> str:
    """The picture as a JPEG in a data URI."""
    buffer = io.BytesIO()
    picture.save(buffer, 'JPEG', quality=82)
    return 'data:image/jpeg;base64,' + base64.b64encode(buffer.getvalue()).decode()


def picture_of_size(path: str, side: int) -> tuple[Image.Image, float]:
    """An image file in a size to look at, its long side at most `side` unless it is small, and the scale factor.

    Raises:
        UserError: the image cannot be read.
    """
    image = read_image(path)
    factor = side / max(image.shape[:2])
    if factor >= 1:
        return enlarged(image)
    picture = Image.fromarray(image)
    size = max(1, round(picture.width * factor)), max(1, round(picture.height * factor))
    return picture.resize(size, Image.Resampling.LANCZOS), factor


def _color(name: str) -> tuple[int, int, int]:
    red, green, blue = ImageColor.getrgb(COLORS[name])[:3]
    return red, green, blue
