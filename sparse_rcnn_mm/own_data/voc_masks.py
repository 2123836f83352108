"""Reads the masks of Pascal VOC: `SegmentationObject/NAME.png`, whose pixels are numbers of objects.

0 is the background, 255 the border between objects. The file does not say which number is which object of the XML
file. A mask belongs to the object whose box fits the box of the mask; what fits two about equally, or none, is left
out and counted.
"""
from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from pycocotools import mask as rle_codec

from sparse_rcnn_mm.datasets.decoding import TooLargeError, opened
from sparse_rcnn_mm.datasets.masks import run_lengths
from sparse_rcnn_mm.datasets.scan import Scan
from sparse_rcnn_mm.errors import UserError

from .raw_data import Box, counted, relative

FOLDER, CLASSES = 'segmentationobject', 'segmentationclass'
BORDER = 255
_LEAST = 0.4  # IoU of a mask's box and an object's: the border makes masks a few pixels smaller than their objects
_MARGIN = 0.05  # by which the IoU with any other box must be lower
Corners = tuple[float, float, float, float]


class Instance(NamedTuple):
    """A mask: its number in the file, and its bitmap (height, width) bool."""
    number: int
    bitmap: np.ndarray

    @property
    def box(self) -> tuple[int, int, int, int]:
        """x1, y1, x2, y2, where the last two are the first pixels beyond the mask."""
        rows, columns = np.flatnonzero(self.bitmap.any(1)), np.flatnonzero(self.bitmap.any(0))
        return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


@dataclass
class VocMasks:
    """The mask files of a scanned folder. The lists name what was left out."""
    scan: Scan
    without_object: list[str] = field(default_factory=list)
    ambiguous: list[str] = field(default_factory=list)
    without_mask: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._files: dict[str, list[tuple[Path, Path]]] = defaultdict(list)
        for path in self.scan.files:
            base = folder_above(path, FOLDER) if path.suffix.lower() == '.png' else None
            if base is not None:
                self._files[path.stem.lower()].append((base, path))

    def __bool__(self) -> bool:
        return bool(self._files)

    def all_files(self) -> list[Path]:
        """All mask files."""
        return [path for several in self._files.values() for _, path in several]

    def file_of(self, xml: Path) -> Path | None:
        """The mask file of an XML file: of the same name, in the folder that has both.

        Raises:
            UserError: there are several.
        """
        beside = [path for base, path in self._files[xml.stem.lower()] if xml.is_relative_to(base)]
        mirrored = [path for path in beside if path.parent.name == xml.parent.name]
        found = mirrored or beside
        if len(found) > 1:
            raise UserError(f'{relative(found[0], self.scan.root)} and {relative(found[1], self.scan.root)} in '
                            f'{self.scan.root} could both be the masks of {relative(xml, self.scan.root)}: remove one')
        return found[0] if found else None

    def forget(self) -> None:
        """Empty the lists."""
        for several in (self.without_object, self.ambiguous, self.without_mask):
            several.clear()

    def add_to(self, boxes: list[Box], path: Path, size: tuple[int, int]) -> list[Box]:
        """The boxes of an image of this width and height, with their masks in a file.

        Raises:
            ValueError: the file is not usable. The message continues a sentence that starts with the file.
        """
        instances = read_instances(path)
        if instances and instances[0].bitmap.shape != size[::-1]:
            height, width = instances[0].bitmap.shape
            raise ValueError(f'is {width} x {height} pixels, but its image is {size[0]} x {size[1]}')
        owners = match(instances, boxes)
        masked = list(boxes)
        for instance, (owner, fits) in zip(instances, owners, strict=True):
            where = f'number {instance.number} in {relative(path, self.scan.root)}'
            if owner is None:
                (self.ambiguous if fits else self.without_object).append(where)
            else:
                masked[owner] = boxes[owner]._replace(segmentation=run_lengths(instance.bitmap),
                                                      mask_area=int(instance.bitmap.sum()))
        self.without_mask += [box.source for box in masked if box.segmentation is None]
        return masked

    @property
    def notes(self) -> list[str]:
        """What was left out, one sentence each."""
        kinds = [(self.without_object, 'that fits no box of its XML file'),
                 (self.ambiguous, 'that could belong to several boxes of its XML file')]
        said = [f'{counted(len(several), "mask")} {why}, left out; the first: {several[0]}'
                for several, why in kinds if several]
        if self.without_mask:
            said.append(f'{counted(len(self.without_mask), "box")} without a mask, the first: {self.without_mask[0]}')
        return said


def folder_above(path: Path, name: str) -> Path | None:
    """The folder that contains the folder `name` (lower case) of a file, or None."""
    return next((parent.parent for parent in path.parents if parent.name.lower() == name), None)


def is_mask(path: Path) -> bool:
    """Whether a file is in a folder of masks, whose files have the names of the images."""
    return any(folder_above(path, name) is not None for name in (FOLDER, CLASSES))


def read_instances(path: Path) -> list[Instance]:
    """The objects of a file of object numbers, by number.

    Raises:
        ValueError: it cannot be decoded, or its pixels are not numbers.
    """
    try:
        with opened(path) as image:
            image.load()
            plain = image.mode in ('P', 'L', '1', 'I', 'I;16')
            numbers = np.asarray(image) if plain else _of_colors(np.asarray(image.convert('RGB')))
    except (OSError, SyntaxError, TooLargeError) as error:
        raise ValueError(f'cannot be decoded ({error})') from error
    return [Instance(int(number), numbers == number) for number in np.unique(numbers) if number not in (0, BORDER)]


def match(instances: list[Instance], boxes: list[Box]) -> list[tuple[int | None, bool]]:
    """The index of the box of every instance, or None, and whether any box fits.

    A pair is matched if both fit nothing else about equally well. Matched pairs are taken out, and the rest is tried
    again: a mask may fit only one of the boxes that are left.
    """
    overlaps = _overlaps([instance.box for instance in instances], [box.corners for box in boxes])
    fits = [bool((row >= _LEAST).any()) for row in overlaps]
    owners: list[int | None] = [None] * len(instances)
    while pairs := [(row, column) for row, column in np.argwhere(overlaps >= _LEAST).tolist()
                    if _alone(overlaps[row], column) and _alone(overlaps[:, column], row)]:
        for row, column in pairs:
            owners[row] = column
            overlaps[row], overlaps[:, column] = 0, 0
    return list(zip(owners, fits, strict=True))


def _alone(values: np.ndarray, index: int) -> bool:
    """Whether a value is higher than all others by a margin."""
    others = np.delete(values, index)
    return not len(others) or bool(values[index] > others.max() + _MARGIN)


def _overlaps(one: Sequence[Corners], other: Sequence[Corners]) -> np.ndarray:
    """IoU of n and m boxes: (n, m)."""
    with_sides = [[[x1, y1, x2 - x1, y2 - y1] for x1, y1, x2, y2 in boxes] for boxes in (one, other)]
    return np.reshape(rle_codec.iou(*with_sides, [0] * len(other)), (len(one), len(other)))


def _of_colors(pixels: np.ndarray) -> np.ndarray:
    """Numbers of a picture in VOC's colors, as some tools save masks without a palette."""
    packed = pixels.astype(np.int64) @ [65536, 256, 1]
    colors = _color_numbers()
    found = np.unique(packed)
    if unknown := [int(color) for color in found if int(color) not in colors]:
        raise ValueError(f'is a picture in colors that are not those of VOC, such as #{unknown[0]:06x}: save the '
                         'numbers of the objects, as gray values or with a palette')
    return np.array([colors[int(color)] for color in found])[np.searchsorted(found, packed)]


@cache
def _color_numbers() -> dict[int, int]:
    """Color 0xRRGGBB -> its place in VOC's map: bits 0, 1, 2 are the highest bits of red, green, blue, and so on."""
    colors = {}
    for number in range(256):
        color = 0
        for bit in range(8):
            color |= (number >> bit & 1) << (23 - 8 * (bit % 3) - bit // 3)
        colors[color] = number
    return colors
