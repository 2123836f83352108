"""What runs beside training and testing: checkpoints, curves, the fast form, trackers."""
from .checkpoint import CheckpointHook, EMAHook
from .curves import CurvesHook
from .fast_form import FastFormHook
from .inference_checkpoint import InferenceCheckpointHook, saved_checkpoint
from .trackers import TRACKERS, log_to
from .validation_loss import ValidationLossHook
from .visualization import DetVisualizationHook

__all__ = [
    'TRACKERS', 'CheckpointHook', 'CurvesHook', 'DetVisualizationHook', 'EMAHook', 'FastFormHook',
    'InferenceCheckpointHook', 'ValidationLossHook', 'log_to', 'saved_checkpoint',
]
