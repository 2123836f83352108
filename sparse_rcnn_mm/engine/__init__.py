"""Training and testing: the Runner, the config from the command line, hooks, and resuming."""
from sparse_rcnn_mm.own_data.config import set_training_data

from .api import evaluate, train
from .batch import accumulate
from .config import add_common_arguments, load_config
from .exported import ExportedModel
from .fine_tuning import LayerDecayConstructor
from .hooks import (
    TRACKERS,
    CheckpointHook,
    CurvesHook,
    DetVisualizationHook,
    EMAHook,
    FastFormHook,
    InferenceCheckpointHook,
    log_to,
)
from .loops import EpochBasedTrainLoop, IterBasedTrainLoop, ValLoop
from .optim_wrappers import AmpOptimWrapper, CPUAmpOptimWrapper, OptimWrapper
from .runner import Runner
from .testing import build_test_dataset, dump_predictions, run_test, testing_config

__all__ = [
    'TRACKERS', 'AmpOptimWrapper', 'CPUAmpOptimWrapper', 'CheckpointHook', 'CurvesHook', 'DetVisualizationHook',
    'EMAHook', 'EpochBasedTrainLoop', 'ExportedModel', 'FastFormHook', 'InferenceCheckpointHook', 'IterBasedTrainLoop',
    'LayerDecayConstructor', 'OptimWrapper', 'Runner', 'ValLoop', 'accumulate', 'add_common_arguments',
    'build_test_dataset', 'dump_predictions', 'evaluate', 'load_config', 'log_to', 'run_test', 'set_training_data',
    'testing_config', 'train',
]
