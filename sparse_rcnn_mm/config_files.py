"""Finds the configs of this package by name."""
from __future__ import annotations

import os
from pathlib import Path

from .errors import UserError, did_you_mean

FOLDER = Path(__file__).parent / '.mim' / 'configs' / 'configs'


def config_names() -> list[str]:
    """The names of all published configs, such as sparse_rcnn_r50_3x."""
    return sorted(path.stem for path in FOLDER.glob('*.py'))


def find_config(config: str | os.PathLike) -> Path:
    """Return the file of a config: `config` itself if the file exists, else the published config with this name.

    Raises:
        UserError: neither exists.
    """
    if Path(config).is_file():
        return Path(config)
    name = os.fspath(config)
    if name in config_names():
        return FOLDER / f'{name}.py'
    raise UserError(f'there is no config file {name}{did_you_mean(Path(name).stem, config_names())}: pass the path of '
                    f'a file or one of the names {", ".join(config_names())}')
