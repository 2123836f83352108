"""The COCO metric, that of CrowdHuman, and the analysis of the detections behind it (tools/analyze.py)."""
from .coco_metric import CocoMetric, FasterCocoMetric
from .crowdhuman_metric import CrowdHumanMetric

__all__ = ['CocoMetric', 'CrowdHumanMetric', 'FasterCocoMetric']
