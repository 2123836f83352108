"""Checkpoints: safe reading, their metadata and config, loading, conversion from and to the official code's."""
from .loading import LoadReport, compare, load_checkpoint, load_contents, load_matching, unwrapped
from .metadata import Metadata
from .reading import allow_mmengine_checkpoints, load_data_pickle, read_checkpoint, state_dict_of
from .stored_config import StoredConfig, building, registered_only
from .weights import published_config

__all__ = [
    'LoadReport', 'Metadata', 'StoredConfig', 'allow_mmengine_checkpoints', 'building', 'compare', 'load_checkpoint',
    'load_contents', 'load_data_pickle', 'load_matching', 'published_config', 'read_checkpoint', 'registered_only',
    'state_dict_of', 'unwrapped'
]
