"""The data set of the quick start."""
from __future__ import annotations

from sparse_rcnn_mm.registry import DATASETS

from .coco import CocoDataset


@DATASETS.register_module()
class DigitsDataset(CocoDataset):
    """Handwritten digits scattered on images, made by `sparse-rcnn digits`."""

    METAINFO = {
        'classes': tuple('0123456789'),
        'palette': [(230, 25, 75), (60, 180, 75), (255, 225, 25), (0, 130, 200), (245, 130, 48), (145, 30, 180),
                    (70, 240, 240), (240, 50, 230), (210, 245, 60), (250, 190, 212)],
    }
    HOW_TO_GET = "'sparse-rcnn digits' makes the digits in data/digits"
