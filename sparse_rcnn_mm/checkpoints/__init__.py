"""Checkpoints: reading them safely, loading them, and the way from and to the official code's."""
from .loading import LoadReport, compare, load_checkpoint, load_contents, load_matching
from .reading import allow_mmengine_checkpoints, class_names_of, read_checkpoint, state_dict_of

__all__ = [
    'LoadReport', 'allow_mmengine_checkpoints', 'class_names_of', 'compare', 'load_checkpoint', 'load_contents',
    'load_matching', 'read_checkpoint', 'state_dict_of'
]
