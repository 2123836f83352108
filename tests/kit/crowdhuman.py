"""The authors' CrowdHuman tools on made-up people: what they were given and what they wrote (tests/data/README.md)."""
from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from zipfile import ZipFile

from PIL import Image

from . import ROOT

ARCHIVE = ROOT / 'tests/data/crowdhuman.zip'


def content(name: str) -> bytes:
    with ZipFile(ARCHIVE) as archive:
        return archive.read(name)


def parsed(name: str) -> Any:
    return json.loads(content(name))


def unpacked(name: str, folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content(name))
    return folder / name


def write_crowdhuman(folder: Path) -> Path:
    """annotation_val.odgt of the archive, annotation_train.odgt of its first two lines, Images/ of blank pictures."""
    lines = content('gt.odgt').decode().splitlines(keepends=True)
    (folder / 'Images').mkdir(parents=True)
    (folder / 'annotation_val.odgt').write_text(''.join(lines))
    (folder / 'annotation_train.odgt').write_text(''.join(lines[:2]).replace('"ID": "', '"ID": "train'))
    sizes = parsed('image_sizes.json')
    sizes |= {f'train{name}': size for name, size in list(sizes.items())[:2]}
    for name, size in sizes.items():
        Image.new('L', size).save(folder / f'Images/{name}.jpg')
    return folder
