"""Makes a small data set in the layout of the Pascal VOC challenge: `python tests/kit/voc.py FOLDER [IMAGES]`."""
from __future__ import annotations

import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

CLASSES = ('boat', 'bottle', 'bus')  # of the 20 of VOC: a triangle, an ellipse, a rectangle
NUMBERS = {'boat': 4, 'bottle': 5, 'bus': 6}  # in SegmentationClass
COLORS = {'boat': (210, 70, 60), 'bottle': (60, 190, 90), 'bus': (70, 90, 220)}
BORDER = 255
DATABASE = 'The VOC2012 Database'


class Thing(NamedTuple):
    """An object; `box` is x1, y1, x2, y2, whose last two are the first pixels beyond it."""
    name: str
    bitmap: np.ndarray
    difficult: bool = False

    @property
    def box(self) -> tuple[int, int, int, int]:
        rows, columns = np.flatnonzero(self.bitmap.any(1)), np.flatnonzero(self.bitmap.any(0))
        return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def shape(name: str, width: int, height: int, center: np.ndarray, radius: np.ndarray) -> np.ndarray:
    """The bitmap of an object."""
    y, x = np.mgrid[:height, :width] + 0.5
    dx, dy = (x - center[0]) / radius[0], (y - center[1]) / radius[1]
    if name == 'bottle':
        return dx**2 + dy**2 <= 1
    if name == 'bus':
        return np.maximum(abs(dx), abs(dy)) <= 1
    return (dy <= 1) & (abs(dx) <= (dy + 1) / 2)


def palette() -> list[int]:
    """VOC's colors, by the loop of its development kit."""
    colors = []
    for number in range(256):
        red = green = blue = 0
        rest = number
        for place in range(7, -1, -1):
            red |= (rest & 1) << place
            green |= (rest >> 1 & 1) << place
            blue |= (rest >> 2 & 1) << place
            rest >>= 3
        colors += [red, green, blue]
    return colors


def numbers(things: list[Thing], values: list[int], border: int = 1) -> np.ndarray:
    """A file of masks: the value of each object, 0 elsewhere, 255 in a border around each. Later ones are in front."""
    picture = np.zeros(things[0].bitmap.shape, np.uint8)
    for thing, value in zip(things, values, strict=True):
        inner = thing.bitmap.copy()
        for _ in range(border):
            edge = np.pad(inner, 1)
            inner &= edge[:-2, 1:-1] & edge[2:, 1:-1] & edge[1:-1, :-2] & edge[1:-1, 2:]
        picture[thing.bitmap], picture[inner] = BORDER, value
    return picture


def save_numbers(path: Path, picture: np.ndarray) -> None:
    """Save a file of masks with VOC's palette."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(picture, 'P')
    image.putpalette(palette())
    image.save(path)


def xml(stem: str, width: int, height: int, things: list[Thing], database: str = DATABASE) -> str:
    """The annotation of an image. The challenge counts pixels from 1 and includes the last one."""
    objects = ''.join(
        f'<object><name>{thing.name}</name><difficult>{int(thing.difficult)}</difficult><bndbox><xmin>{x1 + 1}</xmin>'
        f'<ymin>{y1 + 1}</ymin><xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox></object>'
        for thing in things for x1, y1, x2, y2 in [thing.box])
    return (f'<annotation><folder>VOC2012</folder><filename>{stem}.jpg</filename>'
            f'<source><database>{database}</database></source><size><width>{width}</width><height>{height}</height><depth>3</depth></size>'
            f'<segmented>1</segmented>{objects}</annotation>')


def draw_things(rng: np.random.Generator, width: int, height: int, number: int) -> tuple[np.ndarray, list[Thing]]:
    """A picture (height, width, 3), and its objects, one in each column of a grid, so that none covers another."""
    picture = rng.integers(90, 166, (height, width, 3)).astype(np.uint8)
    things = []
    for place in range(number):
        name = str(rng.choice(CLASSES))
        cell = width / number
        radius = rng.uniform(0.25, 0.42, 2) * (cell, height)
        center = np.array([cell * (place + 0.5), height / 2]) + rng.uniform(-0.05, 0.05, 2) * (cell, height)
        thing = Thing(name, shape(name, width, height, center, radius), difficult=bool(rng.random() < 0.1))
        picture[thing.bitmap] = np.clip(picture[thing.bitmap] * 0.2 + np.array(COLORS[name]) * 0.8, 0, 255)
        things.append(thing)
    return picture, things


def write_voc(root: Path, images: int = 12, size: tuple[int, int] = (160, 120),
              seed: int = 0) -> dict[str, list[Thing]]:
    """Write VOCdevkit/VOC2012 under `root` and return the objects by image.

    The images alternate between train and val. Every third one has no masks and is not in ImageSets/Segmentation.
    """
    rng = np.random.default_rng(seed)
    base = root / 'VOCdevkit' / 'VOC2012'
    for folder in ('JPEGImages', 'Annotations', 'ImageSets/Main', 'ImageSets/Segmentation'):
        (base / folder).mkdir(parents=True)
    written: dict[str, list[Thing]] = {}
    sets: dict[str, list[str]] = {}
    for index in range(images):
        stem, split, masked = f'2012_{index:06d}', ('train', 'val')[index % 2], index % 3 != 2
        picture, things = draw_things(rng, *size, number=int(rng.integers(1, 4)))
        Image.fromarray(picture).save(base / f'JPEGImages/{stem}.jpg', quality=95)
        (base / f'Annotations/{stem}.xml').write_text(xml(stem, *size, things))
        written[stem] = things
        for kind in ['Main', *['Segmentation'] * masked]:
            for name in (split, 'trainval'):
                sets.setdefault(f'{kind}/{name}', []).append(stem)
        if masked:
            save_numbers(base / f'SegmentationObject/{stem}.png', numbers(things, [*range(1, len(things) + 1)]))
            save_numbers(base / f'SegmentationClass/{stem}.png', numbers(things, [NUMBERS[one.name] for one in things]))
    for name, stems in sets.items():
        (base / f'ImageSets/{name}.txt').write_text(''.join(f'{stem}\n' for stem in stems))
    (base / 'ImageSets/Main/boat_train.txt').write_text(''.join(
        f'{stem} {1 if any(one.name == "boat" for one in written[stem]) else -1:2d}\n' for stem in sets['Main/train']))
    return written


if __name__ == '__main__':
    write_voc(Path(sys.argv[1]), *map(int, sys.argv[2:3]))
