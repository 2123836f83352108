"""The COCO metric, and what can be learned from the detections behind it (tools/analyze.py)."""
from .coco_metric import CocoMetric, FasterCocoMetric

__all__ = ['CocoMetric', 'FasterCocoMetric']
