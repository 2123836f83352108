"""The COCO metric, and the analysis of the detections behind it (tools/analyze.py)."""
from .coco_metric import CocoMetric, FasterCocoMetric

__all__ = ['CocoMetric', 'FasterCocoMetric']
