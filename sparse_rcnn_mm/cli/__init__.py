"""The commands of `sparse-rcnn`: one module per command, each with `main(argv) -> exit status`.

Importing this package sets PyTorch's variables, because the command that is imported next may load PyTorch.
"""
from .environment import set_environment

set_environment()
