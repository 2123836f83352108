"""Running the model: the Runner, its config from the command line, and mixed precision on the CPU."""
from .amp import CPUAmpOptimWrapper
from .config import add_common_arguments, load_config
from .runner import Runner

__all__ = ['CPUAmpOptimWrapper', 'Runner', 'add_common_arguments', 'load_config']
