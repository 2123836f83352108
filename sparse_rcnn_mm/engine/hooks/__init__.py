"""What runs beside training and testing: curves, the fast form, the inference checkpoint, trackers."""
from .curves import CurvesHook
from .fast_form import FastFormHook
from .inference_checkpoint import InferenceCheckpointHook, saved_checkpoint
from .trackers import TRACKERS, log_to

__all__ = ['CurvesHook', 'FastFormHook', 'InferenceCheckpointHook', 'TRACKERS', 'log_to',
           'saved_checkpoint']
