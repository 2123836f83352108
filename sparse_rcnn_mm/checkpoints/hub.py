"""Folders of the Hugging Face Hub: weights, config, class names and a model card, here or on a hub.

A folder holds `model.safetensors`, `config.py` (the config as text, which is parsed as literals and never run),
`config.json` (class names and category ids) and `README.md`. Like a checkpoint, it may come from an untrusted source,
and its config passes the same checks (`stored_config.py`).
"""
from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from mmengine.config import Config
from torch import Tensor

from sparse_rcnn_mm.downloads import DownloadError
from sparse_rcnn_mm.errors import UserError, in_short
from sparse_rcnn_mm.versions import __version__

from .metadata import Metadata
from .model_card import model_card
from .safetensors_files import read_safetensors, write_safetensors
from .stored_config import StoredConfig
from .writing import write_text

WEIGHTS, CONFIG, DESCRIPTION, CARD = 'model.safetensors', 'config.py', 'config.json', 'README.md'
LIBRARY = 'sparse_rcnn_mm'
PREFIX = 'hf://'
_NAME = re.compile(r'(?P<name>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w./-]+))?', re.ASCII)


def is_hub_folder(path: Path) -> bool:
    """Whether a path is a folder with the weights of a model."""
    return (path / WEIGHTS).is_file()


def read_folder(folder: Path, map_location: Any = 'cpu') -> dict[str, Any]:
    """Read a folder as the contents of a checkpoint. Its config is text here, not yet checked.

    Raises:
        UserError: `config.json` or `config.py` cannot be read. (Damaged weights may raise any exception.)
    """
    state = read_safetensors(folder / WEIGHTS, map_location)['state_dict']
    meta: dict[str, Any] = {}
    try:
        if (folder / DESCRIPTION).is_file():
            description = json.loads((folder / DESCRIPTION).read_text(encoding='utf-8'))
            meta = {'dataset_meta': description['dataset_meta']}
        if (folder / CONFIG).is_file():
            meta['cfg'] = (folder / CONFIG).read_text(encoding='utf-8')
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(f'{folder} is not a model of this package: {DESCRIPTION} or {CONFIG} cannot be read '
                        f'({type(error).__name__}: {error})') from error
    return {'state_dict': state, 'meta': meta}


def write_folder(folder: Path, state: Mapping[str, Tensor], meta: Mapping[str, Any], path: str | os.PathLike) -> bool:
    """Write weights, config, class names and model card. A card that is already there stays.

    Paths of the training machine are left out, and the names of images that training held out.

    Args:
        folder: is created.
        state: the weights.
        meta: the metadata of a checkpoint, with the config as `cfg`.
        path: the checkpoint, for messages.

    Returns:
        Whether a model card was written.

    Raises:
        UserError: the config is missing or may not be stored, or the folder cannot be written.
    """
    found = Metadata.of({'meta': meta}, path)
    checked = {'classes': found.classes, 'cat_ids': found.category_ids, 'palette': found.palette}
    dataset_meta = {key: value for key, value in checked.items() if value is not None}
    stored = StoredConfig.of(meta.get('cfg'), path)
    text, kind = published_text(stored), str(stored.model()['type'])
    description = {'library_name': LIBRARY, 'sparse_rcnn_mm_version': __version__, 'dataset_meta': dataset_meta}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_safetensors(state, {}, folder / WEIGHTS)
        write_text(text, folder / CONFIG)
        write_text(json.dumps(description, indent=2) + '\n', folder / DESCRIPTION)
        if fresh := not (folder / CARD).exists():
            write_text(model_card(folder.resolve().name, kind, state, dataset_meta, Path(path).name), folder / CARD)
    except OSError as error:
        raise UserError(f'{folder} cannot be written ({error})') from error
    return fresh


def published_text(stored: StoredConfig) -> str:
    """The parts of a config that a published model needs: the model, the test pipeline, and the metrics.

    Raises:
        UserError: they contain what a stored config may not contain, so nobody could read them back.
    """
    dataset = {**stored.test_dataloader()['dataset'], 'data_root': '', 'ann_file': '', 'data_prefix': {'img': ''}}
    metrics = [{**metric, 'ann_file': ''} if 'ann_file' in metric else metric for metric in stored.test_evaluator()]
    loader = {'batch_size': 1, 'num_workers': 0, 'sampler': {'type': 'DefaultSampler', 'shuffle': False},
              'dataset': dataset}
    return Config({'model': stored.model(), 'test_dataloader': loader, 'test_evaluator': metrics}).pretty_text


def pull(name: str) -> Path:
    """Download a model from the hub, unless it is in the cache, and return its folder.

    Args:
        name: `USER/NAME` or `USER/NAME@REVISION`, with or without `hf://`.

    Raises:
        UserError: the name is no such name, huggingface_hub is missing, or there is no such model.
    """
    match = _NAME.fullmatch(name.removeprefix(PREFIX))
    if not match:
        raise UserError(f'{name} is neither a folder with {WEIGHTS} nor the name of a model on the hub, USER/NAME')
    hub = _huggingface_hub()
    try:
        folder = Path(hub.snapshot_download(match['name'], revision=match['revision'], endpoint=_endpoint(),
                                            allow_patterns=[WEIGHTS, CONFIG, DESCRIPTION]))
    except Exception as error:  # of the network, the hub or the cache
        reason = _reason(error)
        raise DownloadError(f'cannot download the model {name} from the hub ({reason})', reason) from error
    if not is_hub_folder(folder):
        raise UserError(f'the model {name} on the hub has no {WEIGHTS}: sparse-rcnn convert --hub did not write it')
    return folder


def push(folder: Path, name: str) -> str:
    """Upload a folder to the hub, where the model is created if necessary, as a private one. Returns its address.

    Raises:
        UserError: huggingface_hub is missing, or the hub refuses.
    """
    hub = _huggingface_hub()
    try:
        api = hub.HfApi(endpoint=_endpoint())
        api.create_repo(name, private=True, exist_ok=True)
        api.upload_folder(repo_id=name, folder_path=folder, allow_patterns=[WEIGHTS, CONFIG, DESCRIPTION, CARD],
                          commit_message='Weights, config and model card by sparse_rcnn_mm')
        return f'{api.endpoint}/{name}'
    except Exception as error:  # of the network or the hub
        raise UserError(f'cannot upload {folder} to {name} on the hub ({_reason(error)}): log in with hf auth login, '
                        'and try again') from error


def _endpoint() -> str | None:
    return os.environ.get('HF_ENDPOINT')  # read now: huggingface_hub reads it when it is imported


def _huggingface_hub() -> ModuleType:
    try:
        import huggingface_hub
    except ImportError as error:
        raise UserError(f'models on a hub need the package huggingface_hub ({error}): '
                        'pip install huggingface_hub safetensors') from error
    return huggingface_hub


def _reason(error: Exception) -> str:
    return f'{type(error).__name__}: {in_short(error, 200)}'
