"""Running the model: the Runner, its config from the command line, and what training needs beside."""
from sparse_rcnn_mm.own_data.config import set_training_data

from .amp import CPUAmpOptimWrapper
from .batch import accumulate
from .config import add_common_arguments, load_config
from .exported import ExportedModel
from .hooks import TRACKERS, CurvesHook, FastFormHook, InferenceCheckpointHook, log_to
from .runner import Runner
from .testing import build_test_dataset, dump_predictions, run_test, testing_config

__all__ = ['CPUAmpOptimWrapper', 'CurvesHook', 'ExportedModel', 'FastFormHook', 'InferenceCheckpointHook', 'Runner',
           'TRACKERS', 'accumulate', 'add_common_arguments', 'build_test_dataset', 'dump_predictions', 'load_config',
           'log_to', 'run_test', 'testing_config', 'set_training_data']
