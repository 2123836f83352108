"""Finds the configs of this package by name."""
from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import UserError, did_you_mean, refusing

if TYPE_CHECKING:
    from mmengine.config import Config

FOLDER = Path(__file__).parent / '.mim' / 'configs' / 'configs'
_SUFFIXES = ('.py', '.json', '.yaml', '.yml')


def config_names() -> list[str]:
    """The names of all published configs, such as sparse_rcnn_r50_3x."""
    return sorted(path.stem for path in FOLDER.glob('*.py'))


def find_config(config: str | os.PathLike) -> Path:
    """Return the file of a config: `config` itself if the file exists, else the published config with this name.

    Raises:
        UserError: neither exists, or the file has a suffix that no config has.
    """
    name = os.fspath(config)
    if Path(config).is_file():
        if Path(config).suffix not in _SUFFIXES:
            raise UserError(f'{name} is not a config file, which ends in {", ".join(_SUFFIXES)}: pass one, or the name '
                            'of a published config such as sparse_rcnn_r50_3x')
        return Path(config)
    if name in config_names():
        return FOLDER / f'{name}.py'
    raise UserError(f'there is no config file {name}{did_you_mean(Path(name).stem, config_names())}: pass the path of '
                    f'a file or one of the names {", ".join(config_names())}')


def config_from_file(config: str | os.PathLike) -> Config:
    """Read a config file, or a published config by its name. A config file is trusted; it may run code.

    Raises:
        UserError: there is none, or it cannot be read.
    """
    from mmengine.config import Config  # a slow import

    path = find_config(config)
    with refusing(lambda reason: f'the config {os.fspath(config)} cannot be read ({reason})'):
        return Config.fromfile(path)
