"""Checkpoints: safe reading, metadata and config, loading, and conversion from and to those of the official code."""
from .finding import check_resumable, newest_checkpoint
from .initial_weights import checked_initial_weights
from .loading import LoadReport, compare, load_checkpoint, load_contents, load_matching, unwrapped
from .metadata import Metadata
from .reading import load_data_pickle, read_checkpoint, state_dict_of
from .stored_config import StoredConfig, building, is_of_mmdet, registered_only
from .weights import published_config
from .writing import not_finite, remove_unfinished, write_checkpoint, write_text

__all__ = [
    'LoadReport', 'Metadata', 'StoredConfig', 'building', 'check_resumable', 'checked_initial_weights', 'compare',
    'is_of_mmdet', 'load_checkpoint', 'load_contents', 'load_data_pickle', 'load_matching', 'newest_checkpoint',
    'not_finite', 'published_config', 'read_checkpoint', 'registered_only', 'remove_unfinished', 'state_dict_of',
    'unwrapped', 'write_checkpoint', 'write_text'
]
