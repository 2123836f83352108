"""Published weights by name or address: downloaded once, verified, and kept in torch's cache."""
from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import torch
from filelock import FileLock

from sparse_rcnn_mm.downloads import fetch, hash_of
from sparse_rcnn_mm.errors import UserError, did_you_mean

from .hub import PREFIX as HUB
from .hub import is_hub_folder, pull

SITE = 'https://download.openmmlab.com/mmdetection/v2.0/sparse_rcnn'
AUTHORS = 'https://github.com/PeizeSun/SparseR-CNN#models'
# Files of mmdet and torchvision end with the first digits of their SHA-256.
_HASH = re.compile(r'-([0-9a-f]{8,64})\.\w+$')


@dataclass(frozen=True)
class Weights:
    """Weights that were trained on COCO by mmdet.

    Attributes:
        config: the name of our config with the same model, which also names the weights.
        mmdet_name: the name in mmdet's model zoo.
        file: the last part of the address.
        box_ap: the published AP on COCO val2017, in percent.
    """
    config: str
    mmdet_name: str
    file: str
    box_ap: float

    @property
    def url(self) -> str:
        """The address to download from."""
        return f'{SITE}/{self.file}'


def _weights(config: str, mmdet_name: str, published: str, ending: str, box_ap: float) -> Weights:
    return Weights(config, mmdet_name, f'{published}/{published}_{ending}.pth', box_ap)


# Addresses and AP: mmdet 3.3.0, configs/sparse_rcnn/metafile.yml.
ZOO = [
    _weights('sparse_rcnn_r50_1x', 'sparse-rcnn_r50_fpn_1x_coco', 'sparse_rcnn_r50_fpn_1x_coco',
             '20201222_214453-dc79b137', 37.9),
    _weights('sparse_rcnn_r50_3x', 'sparse-rcnn_r50_fpn_ms-480-800-3x_coco',
             'sparse_rcnn_r50_fpn_mstrain_480-800_3x_coco', '20201218_154234-7bc5c054', 42.8),
    _weights('sparse_rcnn_r50_300pro_3x', 'sparse-rcnn_r50_fpn_300-proposals_crop-ms-480-800-3x_coco',
             'sparse_rcnn_r50_fpn_300_proposals_crop_mstrain_480-800_3x_coco', '20201223_024605-9fe92701', 45.0),
    _weights('sparse_rcnn_r101_3x', 'sparse-rcnn_r101_fpn_ms-480-800-3x_coco',
             'sparse_rcnn_r101_fpn_mstrain_480-800_3x_coco', '20201223_121552-6c46c9d6', 44.2),
    _weights('sparse_rcnn_r101_300pro_3x', 'sparse-rcnn_r101_fpn_300-proposals_crop-ms-480-800-3x_coco',
             'sparse_rcnn_r101_fpn_300_proposals_crop_mstrain_480-800_3x_coco', '20201223_023452-c23c3564', 46.2),
]
NAMES = {name: weights for weights in ZOO for name in (weights.config, weights.mmdet_name)}
# The names of the authors' checkpoints, which are on a drive and cannot be downloaded by a program.
OFFICIAL = [f'{backbone}_{proposals}pro_3x_model' for backbone in ('r50', 'r101') for proposals in (100, 300)]


def local_checkpoint(checkpoint: str | os.PathLike) -> Path:
    """Return the local file of a checkpoint given by path, name or address, and download it if necessary.

    An existing file has precedence over a name. A folder with a published model, or `hf://USER/NAME`, gives a folder.

    Raises:
        UserError: there is no such file, name or address, or the download failed.
    """
    path, text = Path(checkpoint).expanduser(), os.fspath(checkpoint)
    if path.is_file() or is_hub_folder(path):
        return path
    if text.startswith(HUB):
        return pull(text)
    if text in NAMES:
        return fetched(NAMES[text].url)
    if text.startswith(('http://', 'https://')):
        return fetched(text)
    if text.removesuffix('.pth') in OFFICIAL:
        raise UserError(f'the authors keep {text} on a drive: download it by hand from {AUTHORS}, then run '
                        f'sparse-rcnn convert {text.removesuffix(".pth")}.pth NEW.pth')
    if path.suffix or path.name != text:
        raise UserError(f'there is no checkpoint {path}')
    raise UserError(f'there is no checkpoint {text}{did_you_mean(text, [*NAMES, *OFFICIAL])}: pass a file, an address '
                    f'or one of the names {", ".join(weights.config for weights in ZOO)}')


def published_config(checkpoint: str | os.PathLike) -> str | None:
    """The name of our config for weights given by a name or address in `ZOO`; None for all others."""
    text = os.fspath(checkpoint)
    by_name = {**NAMES, **{weights.url: weights for weights in ZOO}}
    return by_name[text].config if text in by_name and not Path(text).is_file() else None


def fetched(url: str) -> Path:
    """Download a file to torch's cache, unless it is already there, and return its path.

    If the name ends like `-7bc5c054.pth`, these must be the first digits of the file's SHA-256. If several processes
    need the file, one downloads it and the others wait.

    Raises:
        DownloadError: the download failed. What arrived is kept, and the next call continues from there.
        UserError: the checksum is wrong, or the cache cannot be written.
    """
    name = Path(urlsplit(url).path).name
    if not name:
        raise UserError(f'{url} is not the address of a file')
    target = Path(torch.hub.get_dir(), 'checkpoints', name)
    if target.is_file():
        return target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(target.with_name(f'{name}.lock')):
            if not target.is_file():
                _fetch_checked(url, target)
    except OSError as error:
        raise UserError(f'{url} cannot be kept in {target.parent} ({error}): set TORCH_HOME to a folder that can be '
                        'written') from error
    return target


def _fetch_checked(url: str, target: Path) -> None:
    partial = target.with_name(f'{target.name}.partial')
    fetch(url, partial)
    wanted = _HASH.search(target.name)
    if wanted and not (found := hash_of(partial, 'sha256')).startswith(wanted[1]):
        partial.unlink()
        raise UserError(f'what came from {url} is damaged (its SHA-256 begins with {found[:8]} instead of '
                        f'{wanted[1][:8]}) and was deleted: run the same command again')
    partial.replace(target)
