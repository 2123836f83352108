"""Running the model: the Runner, its config from the command line, own data, and what training needs beside."""
from .amp import CPUAmpOptimWrapper
from .batch import accumulate
from .config import add_common_arguments, load_config
from .curves import CurvesHook
from .fast_form_hook import FastFormHook
from .inference_checkpoint import InferenceCheckpointHook
from .own_data import train_on
from .runner import Runner
from .testing import build_test_dataset, dump_predictions, run_test, testing_config
from .trackers import TRACKERS, log_to

__all__ = ['CPUAmpOptimWrapper', 'CurvesHook', 'FastFormHook', 'InferenceCheckpointHook', 'Runner', 'TRACKERS',
           'accumulate', 'add_common_arguments', 'build_test_dataset', 'dump_predictions', 'load_config', 'log_to',
           'run_test', 'testing_config', 'train_on']
