"""The data set of the Pascal VOC challenge."""
from __future__ import annotations

from sparse_rcnn_mm.registry import DATASETS

from .coco import CocoDataset


@DATASETS.register_module()
class PascalVocDataset(CocoDataset):
    """Pascal VOC with its 20 classes, as COCO JSON written by `sparse-rcnn download voc`."""

    METAINFO = {'classes': (
        'aeroplane', 'bicycle', 'bird', 'boat', 'bottle', 'bus', 'car', 'cat', 'chair', 'cow', 'diningtable', 'dog',
        'horse', 'motorbike', 'person', 'pottedplant', 'sheep', 'sofa', 'train', 'tvmonitor')}
    HOW_TO_GET = ("'sparse-rcnn download voc' fetches Pascal VOC 2007 and 2012 to data/voc; for other data in this "
                  'form, give --data FOLDER')
