"""The metadata in a checkpoint: class names, category ids and the config."""
from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sparse_rcnn_mm.errors import UserError

from .stored_config import StoredConfig, class_names


@dataclass(frozen=True)
class Metadata:
    """The checked `meta` of a checkpoint of mmengine or of mmdet 2.x.

    Attributes:
        path: the checkpoint, for messages.
        classes: the class names by label, or None if they are not stored.
        category_ids: the id of every class in the COCO file of the training data, or None.
        palette: an RGB color for every class, or None.
        held_out: (digest, file name) of the training images that were held out for validation.
        config_text: the config as mmengine stores it. `config` parses it.
    """
    path: str
    classes: tuple[str, ...] | None = None
    category_ids: tuple[int, ...] | None = None
    palette: tuple[tuple[int, int, int], ...] | None = None
    config_text: Any = None
    held_out: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(cls, checkpoint: Mapping[str, Any], path: str | os.PathLike) -> Metadata:
        """Read the metadata from the contents of a checkpoint.

        Raises:
            UserError: the metadata is malformed.
        """
        meta = checkpoint.get('meta') or {}
        if not isinstance(meta, Mapping):
            raise UserError(f'the metadata of {path} is not a dict')
        dataset = meta.get('dataset_meta') or {}
        if not isinstance(dataset, Mapping):
            raise UserError(f'the dataset_meta inside {path} is not a dict')
        # mmdet 3.x writes lower-case keys into `dataset_meta`, 3.0 release candidates upper-case ones, 2.x `CLASSES`
        dataset = {str(key).lower(): value for key, value in dataset.items()}
        names = dataset.get('classes') or meta.get('CLASSES')
        if not names:
            return cls(os.fspath(path), config_text=meta.get('cfg'))
        classes = class_names(names, path)
        return cls(os.fspath(path), classes, _ids(dataset.get('cat_ids'), len(classes), path),
                   _colors(dataset.get('palette'), len(classes)), meta.get('cfg'),
                   parse_held_out(dataset.get('held_out'), path))

    def config(self) -> StoredConfig:
        """Parse the config that the checkpoint was trained with.

        Raises:
            UserError: there is none, or it is not plain data.
        """
        return StoredConfig.of(self.config_text, self.path)

    def ids_by_class(self) -> dict[str, int] | None:
        """Return class name -> category id, counted from 0 if no ids are stored; None without class names.

        Raises:
            UserError: two classes have the same name.
        """
        if self.classes is None:
            return None
        if len(set(self.classes)) < len(self.classes):
            twice = next(name for name in self.classes if self.classes.count(name) > 1)
            raise UserError(f'two classes in {self.path} have the name {twice!r}, so data cannot be matched to them')
        return dict(zip(self.classes, self.category_ids or range(len(self.classes)), strict=True))


def _ids(ids: Any, number: int, path: str | os.PathLike) -> tuple[int, ...] | None:
    if ids is None:
        return None
    if (not isinstance(ids, (list, tuple)) or len(ids) != number or len(set(map(str, ids))) < number
            or any(type(one) is not int for one in ids)):
        raise UserError(f'the category ids inside {path} are not {number} different whole numbers, one for each class')
    return tuple(ids)


def parse_held_out(lines: Any, path: str | os.PathLike) -> tuple[tuple[str, str], ...]:
    """Parse lines 'DIGEST NAME'. A string is the path of a file that mmengine did not find, and is ignored."""
    if lines is None or isinstance(lines, str):
        return ()
    found = [re.fullmatch('([0-9a-f]{16}) (.+)', line) if isinstance(line, str) else None
             for line in (lines if isinstance(lines, (list, tuple)) else [None])]
    if not all(found):
        raise UserError(f'the held-out images inside {path} are not a list of lines of a digest and a name')
    return tuple((match[1], match[2]) for match in found if match)


def _colors(palette: Any, number: int) -> tuple[tuple[int, int, int], ...] | None:
    """Return the palette if it is valid and has a color for every class, else None: it is only decoration."""
    if not isinstance(palette, (list, tuple)) or len(palette) < number:
        return None
    colors = [color for color in palette[:number] if isinstance(color, (list, tuple)) and len(color) == 3
              and all(type(value) is int and 0 <= value <= 255 for value in color)]
    return tuple((r, g, b) for r, g, b in colors) if len(colors) == number else None
