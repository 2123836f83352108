"""A COCO annotation file as arrays: what training and evaluation need, without a Python dict per annotation."""
from __future__ import annotations

import json
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from sparse_rcnn_mm.errors import UserError

from .array_file import open_arrays

CROWD, IGNORED, INVALID, WITHOUT_MASK = 1, 2, 4, 8


@dataclass(frozen=True, eq=False)
class CocoColumns:
    """I images sorted by file name, then id; A annotations sorted by image, in file order within an image.

    In COCO this is the order of the image ids, which detectron2 uses. For other data, the same images come in the same
    order whatever format their annotations had, so that a seed gives the same training.

    Attributes:
        image_ids: (I,) int64.
        sizes: (I, 2) width, height; int64, or float64 where the file has a fraction.
        names, name_ends: all file names concatenated as UTF-8 bytes, and the end of each one.
        starts: (I + 1,) the annotations of image i are `starts[i]:starts[i + 1]`.
        boxes: (A, 4) float64 x, y, width, height, as in the file.
        categories: (A,) int32 index into the file's list of categories.
        areas: (A,) float64, NaN if the file has none.
        annotation_ids: (A,) int64.
        segmentations, segmentation_ends: the JSON text of all segmentations, one after the other, and where each one
            ends; of no length unless masks were asked for.
        flags: (A,) uint8, the sum of CROWD, IGNORED, INVALID (all polygons have fewer than three points) and
            WITHOUT_MASK (no segmentation at all).
        header: `categories`, a list of `id` and `name`; `first_image`, the name of the first image in the file;
            `for_metric`, whether all annotations have what the COCO metric needs; `annotated`, whether the file has a
            list of annotations at all.
        file, crc: the file that these columns are mapped from; None if they are in the memory of this process.
    """
    image_ids: np.ndarray
    sizes: np.ndarray
    names: np.ndarray
    name_ends: np.ndarray
    starts: np.ndarray
    boxes: np.ndarray
    categories: np.ndarray
    areas: np.ndarray
    annotation_ids: np.ndarray
    segmentations: np.ndarray
    segmentation_ends: np.ndarray
    flags: np.ndarray
    header: dict[str, Any]
    file: Path | None = None
    crc: int = 0

    def __len__(self) -> int:
        return len(self.image_ids)

    def __deepcopy__(self, memo: dict) -> CocoColumns:
        return self  # immutable

    def __reduce__(self) -> tuple:
        """Pickle a mapped file by its path, so that spawned workers map it instead of receiving a copy."""
        if self.file is not None:
            return mapped_columns, (self.file, self.crc)
        return CocoColumns, tuple(getattr(self, field.name) for field in fields(self))

    def arrays(self) -> dict[str, np.ndarray]:
        """The arrays by name, as `write_arrays` takes them."""
        return {name: value for name, value in vars(self).items() if isinstance(value, np.ndarray)}

    def name(self, image: int) -> str:
        """The file name of an image."""
        start = self.name_ends[image - 1] if image else 0
        return self.names[start:self.name_ends[image]].tobytes().decode('utf-8', 'surrogatepass')

    def segmentation(self, row: int) -> Any:
        """What the file has as `segmentation` of an annotation."""
        start = self.segmentation_ends[row - 1] if row else 0
        return json.loads(self.segmentations[start:self.segmentation_ends[row]].tobytes())

    def annotations(self, image: int) -> slice:
        """The rows of an image's annotations."""
        return slice(int(self.starts[image]), int(self.starts[image + 1]))

    @cached_property
    def known_ids(self) -> frozenset[int]:
        """All image ids."""
        return frozenset(self.image_ids.tolist())


def mapped_columns(file: Path, crc: int | None = None) -> CocoColumns:
    """Map a file of columns that another process has already checked.

    Raises:
        UserError: the file has changed since then.
    """
    columns = open_columns(file, check=False)
    if columns is None or columns.crc != crc:
        raise UserError(f'{file} was replaced while it was in use, because its annotation file changed: start again')
    return columns


def open_columns(file: Path, check: bool = True, key: bytes | None = None) -> CocoColumns | None:
    """Open columns written by `write_arrays`. None if they are missing, damaged or sealed with another key."""
    found = open_arrays(file, check, key)
    if found is None or {*found.arrays} != _ARRAYS:
        return None
    return CocoColumns(**found.arrays, header=found.header, file=file, crc=found.crc)


_ARRAYS = {field.name for field in fields(CocoColumns)} - {'header', 'file', 'crc'}
