"""A COCO annotation file as columns of numbers: what training and evaluation need of it, without a dict per entry."""
from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from sparse_rcnn_mm.errors import UserError

from .array_file import open_arrays

CROWD, IGNORED, INVALID = 1, 2, 4


@dataclass(frozen=True, eq=False)
class CocoColumns:
    """I images in the order of their file names (then ids), and A annotations by image, each image's in file order.

    COCO's file names are its image ids, by which detectron2 sorts; and the same images are in the same order then
    whatever form their annotations came in, so that a seed gives the same training.

    Attributes:
        image_ids: (I,) int64.
        sizes: (I, 2) width, height; int64, or float64 where the file has a fraction.
        names, name_ends: UTF-8 bytes of all file names, one after the other, and where each one ends.
        starts: (I + 1,) annotations of image i are `starts[i]:starts[i + 1]`.
        boxes: (A, 4) float64 x, y, width, height, as in the file.
        categories: (A,) int32 position in the file's list of categories.
        areas: (A,) float64, nan where the file has none.
        annotation_ids: (A,) int64.
        flags: (A,) uint8, the sum of CROWD, IGNORED and INVALID (all polygons have fewer than three points).
        header: `categories`, a list of `id` and `name`; `first_image`, name of the first in the file; `for_metric`,
            whether all annotations have what the COCO metric needs; `annotated`, whether the file has a list of
            annotations at all.
        file, crc: where these columns are mapped from; None when they are in the memory of this process.
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
    flags: np.ndarray
    header: dict[str, Any]
    file: Path | None = None
    crc: int = 0

    def __len__(self) -> int:
        return len(self.image_ids)

    def __deepcopy__(self, memo: dict) -> CocoColumns:
        return self  # nothing in it changes

    def __reduce__(self) -> tuple:
        """A worker that is spawned maps the file instead of getting a copy."""
        if self.file is not None:
            return mapped_columns, (self.file, self.crc)
        return CocoColumns, tuple(getattr(self, field.name) for field in fields(self))

    def arrays(self) -> dict[str, np.ndarray]:
        return {name: value for name, value in vars(self).items() if isinstance(value, np.ndarray)}

    def name(self, image: int) -> str:
        start = self.name_ends[image - 1] if image else 0
        return self.names[start:self.name_ends[image]].tobytes().decode('utf-8', 'surrogatepass')

    def annotations(self, image: int) -> slice:
        return slice(int(self.starts[image]), int(self.starts[image + 1]))

    @cached_property
    def known_ids(self) -> frozenset[int]:
        return frozenset(self.image_ids.tolist())


def mapped_columns(file: Path, crc: int | None = None) -> CocoColumns:
    """The columns of a file that another process has checked.

    Raises:
        UserError: it is no longer the same.
    """
    columns = open_columns(file, check=False)
    if columns is None or columns.crc != crc:
        raise UserError(f'{file} was replaced while it was in use, as its annotation file was changed: start again')
    return columns


def open_columns(file: Path, check: bool = True) -> CocoColumns | None:
    """The columns that `write_arrays` wrote, or None when they are missing or damaged."""
    found = open_arrays(file, check)
    if found is None or {*found.arrays} != _ARRAYS:
        return None
    return CocoColumns(**found.arrays, header=found.header, file=file, crc=found.crc)


_ARRAYS = {field.name for field in fields(CocoColumns)} - {'header', 'file', 'crc'}
