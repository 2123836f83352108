"""The COCO metric, that of CrowdHuman, and the analysis of detections behind `sparse-rcnn analyze`."""
from .coco_metric import CocoMetric, FasterCocoMetric
from .crowdhuman_metric import CrowdHumanMetric

__all__ = ['CocoMetric', 'CrowdHumanMetric', 'FasterCocoMetric']
