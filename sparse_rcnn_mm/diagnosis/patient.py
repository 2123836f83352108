"""The subject of an examination: a config and its data, as training would use them."""
from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.config import Config

from sparse_rcnn_mm.engine import accumulate, load_config
from sparse_rcnn_mm.errors import UserError
from sparse_rcnn_mm.own_data.config import set_training_data, with_masks
from sparse_rcnn_mm.own_data.raw_data import RawData
from sparse_rcnn_mm.own_data.reading import read_data
from sparse_rcnn_mm.own_data.report import data_of


@dataclass
class Patient:
    """A training to examine.

    Attributes:
        name: the name of the data in messages.
        config: the path or name of the config.
        cfg: the config. It already names its data, unless `data` is given.
        data: a folder of the user's own data, which `prepare` puts into the config.
        work_dir: the work dir of an earlier training; None if there is none.
    """
    name: str
    config: str
    cfg: Config
    data: str = ''
    work_dir: Path | None = None

    @classmethod
    def of_data(cls, data: str, config: str, out: str | None, options: Mapping[str, Any]) -> Patient:
        """Examine the training of a config on a folder of the user's own data."""
        name = Path(data).resolve().stem
        return cls(name, config, _config(config, out or f'work_dirs/doctor_{name}', options), data)

    @classmethod
    def of_target(cls, target: str, out: str | None, options: Mapping[str, Any]) -> Patient:
        """Examine a config that names its data, or the work dir of an earlier training."""
        if not Path(target).is_dir():
            name = Path(target).stem
            return cls(name, target, _config(target, out or f'work_dirs/doctor_{name}', options))
        configs = sorted(Path(target).glob('*.py'), key=lambda path: path.stat().st_mtime)
        if not configs:
            raise UserError(f'{target} is not the work dir of a training, as it holds no config: give one, or your '
                            'data by --data FOLDER')
        name = Path(target).resolve().name
        return cls(name, str(configs[-1]), _config(str(configs[-1]), out or str(Path(target, 'doctor')), options),
                   work_dir=Path(target))

    @property
    def folder(self) -> Path:
        """The folder of the page."""
        return Path(self.cfg.work_dir)

    @property
    def load_from(self) -> str:
        """The checkpoint that the config starts from; '' for none."""
        return os.fspath(self.cfg.get('load_from') or '')

    def raw(self) -> RawData:
        """Read the data from the disk."""
        return read_data(self.data, with_masks(self.cfg)) if self.data else data_of(self.cfg)

    def prepare(self, load_from: str | None) -> None:
        """Change the config in the same way as training does."""
        if self.data:
            set_training_data(self.cfg, self.data)
        if load_from:
            self.cfg.load_from = load_from
        if self.load_from:
            self.cfg.model.backbone.init_cfg = None  # the checkpoint includes the backbone
        if self.work_dir is None:  # the saved config of a training already has the rate for its batch size
            accumulate(self.cfg)


def _config(config: str, work_dir: str, options: Mapping[str, Any]) -> Config:
    return load_config(argparse.Namespace(config=config, work_dir=work_dir, cfg_options=dict(options),
                                          launcher='none'))
