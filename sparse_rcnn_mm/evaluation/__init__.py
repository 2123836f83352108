"""The COCO metric, those of CrowdHuman and Pascal VOC, and the analysis of detections behind `sparse-rcnn analyze`."""
from .coco_metric import CocoMetric, FasterCocoMetric
from .crowdhuman_metric import CrowdHumanMetric
from .voc_metric import PascalVocMetric

__all__ = ['CocoMetric', 'CrowdHumanMetric', 'FasterCocoMetric', 'PascalVocMetric']
