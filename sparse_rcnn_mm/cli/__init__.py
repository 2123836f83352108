"""The commands of `sparse-rcnn`: one module per command, each with `main(argv) -> exit status`.

Importing this package sets the variables of OpenMP, because the command that is imported next may load PyTorch.
"""
from .threads import set_threads

set_threads()
