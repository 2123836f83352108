"""The COCO metric, and the analysis of the detections behind it (`sparse-rcnn analyze`)."""
from .coco_metric import CocoMetric, FasterCocoMetric

__all__ = ['CocoMetric', 'FasterCocoMetric']
