"""Makes a small detection data set from real scans: scikit-learn's handwritten digits, scattered on images.

The 1,797 scans of 8 x 8 pixels are the test part of "Optical Recognition of Handwritten Digits" (E. Alpaydin and
C. Kaynak, UCI Machine Learning Repository, CC BY 4.0).
"""
from __future__ import annotations

import json
import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from sparse_rcnn_mm.errors import UserError

from .masks import run_lengths

IMAGE_SIZE = 192
SPLITS = {'train': 1000, 'val': 200}  # images
DIGITS_PER_IMAGE = (1, 6)
DIGIT_SIDES = (28, 90)  # longer side of the box, in pixels
MAX_COVERED = 0.1  # largest overlap of two boxes, as a part of the smaller one
INK, PAPER = (0, 100), (170, 255)  # brightness of each color channel

Scan = tuple[int, np.ndarray]
Box = tuple[int, int, int, int]


class Digit(NamedTuple):
    """A digit on an image: its tight box (x, y, width, height), and its ink (192, 192) bool, as far as it is seen."""
    digit: int
    box: Box
    ink: np.ndarray


def make_digits(out: str | Path, seed: int = 0) -> bool:
    """Write `{train,val}.json` and the images `{train,val}/*.jpg` below `out`; the same seed gives the same bytes.

    Returns False if all files existed already, and nothing was done.

    Raises:
        UserError: scikit-learn is missing, or a foreign annotation file would be overwritten.
    """
    out = Path(out)
    complete = [_is_complete(out, split, seed) for split in SPLITS]  # checks all files before writing any
    if all(complete):
        return False
    scans = _load_scans()
    # RandomState, since its random streams never change; those of Generator may change with NumPy versions.
    rng = np.random.RandomState(seed)
    order = rng.permutation(len(scans))
    first_val = len(scans) * SPLITS['train'] // sum(SPLITS.values())
    parts = {'train': order[:first_val], 'val': order[first_val:]}
    for split, part in parts.items():
        _write_split(out, split, [scans[index] for index in part], rng, _info(seed))
    return True


def _info(seed: int) -> dict:
    return {'description': 'scattered handwritten digits', 'maker': 'sparse_rcnn_mm.make_digits', 'version': 3,
            'seed': seed, 'source': 'Optical Recognition of Handwritten Digits, UCI, CC BY 4.0, from scikit-learn'}


def _is_complete(out: Path, split: str, seed: int) -> bool:
    """Whether the split exists. The annotation file is written last, so images can only be missing if removed."""
    path = out / f'{split}.json'
    if not path.exists():
        return False
    try:
        coco = json.loads(path.read_text())
        info = coco['info']
        files = [image['file_name'] for image in coco['images']]
    except (ValueError, KeyError, TypeError):
        info, files = {}, []
    if not isinstance(info, dict) or info.get('maker') != _info(seed)['maker']:
        raise UserError(f'{path.absolute()} exists and was not made by this tool: choose another folder with --out')
    return info == _info(seed) and all((out / split / file).exists() for file in files)


def _load_scans() -> list[Scan]:
    """All scans: the digit, and its ink (8, 8) between 0 and 1."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise UserError('the digits are part of scikit-learn, which is not installed: '
                        "install it with 'pip install scikit-learn'") from error
    data = load_digits()
    return [(int(digit), scan / 16.0) for digit, scan in zip(data.target, data.images, strict=True)]


def _write_split(out: Path, split: str, scans: list[Scan], rng: np.random.RandomState, info: dict) -> None:
    folder = out / split
    folder.mkdir(parents=True, exist_ok=True)
    images: list[dict] = []
    annotations: list[dict] = []
    for image_id in range(1, SPLITS[split] + 1):
        pixels, placed = draw_image(scans, rng)
        name = f'{image_id:06d}.jpg'
        Image.fromarray(pixels).save(folder / name, quality=92, subsampling=0)
        images.append({'id': image_id, 'file_name': name, 'width': IMAGE_SIZE, 'height': IMAGE_SIZE})
        for digit, box, ink in placed:
            annotations.append({'id': len(annotations) + 1, 'image_id': image_id, 'category_id': digit,
                                'bbox': list(box), 'area': box[2] * box[3], 'iscrowd': 0,
                                'segmentation': run_lengths(ink)})
    coco = {'info': info, 'images': images, 'annotations': annotations,
            'categories': [{'id': digit, 'name': str(digit)} for digit in range(10)]}
    temporary = out / f'.{split}.json'
    temporary.write_text(json.dumps(coco))
    os.replace(temporary, out / f'{split}.json')


def draw_image(scans: list[Scan], rng: np.random.RandomState) -> tuple[np.ndarray, list[Digit]]:
    """Draw an image (192, 192, 3) uint8 RGB. Returns it with its digits."""
    canvas = _paper(rng)
    placed: list[Digit] = []
    for _ in range(rng.randint(DIGITS_PER_IMAGE[0], DIGITS_PER_IMAGE[1] + 1)):
        digit, scan = scans[rng.randint(len(scans))]
        opacity = enlarge(scan, rng.randint(DIGIT_SIDES[0], DIGIT_SIDES[1] + 1))
        box = _find_place(opacity.shape, [digit.box for digit in placed], rng)
        if box is None:
            continue
        x, y, width, height = box
        window = canvas[y:y + height, x:x + width]
        window += opacity[:, :, None] * (_colour(INK, rng) - window)
        ink = np.zeros(canvas.shape[:2], bool)
        ink[y:y + height, x:x + width] = opacity >= 0.5
        for below in placed:
            below.ink[ink] = False
        placed.append(Digit(digit, box, ink))
    return canvas.clip(0, 255).astype(np.uint8), placed


def enlarge(scan: np.ndarray, longer_side: int) -> np.ndarray:
    """Enlarge a scan smoothly and crop it to its ink. Returns the opacity (height, width)."""
    ink = Image.fromarray(np.pad(scan, 1).astype(np.float32))
    big = np.asarray(ink.resize((160, 160), Image.Resampling.BICUBIC))
    inked = big > 0.5
    rows, columns = np.flatnonzero(inked.any(1)), np.flatnonzero(inked.any(0))
    stroke = ((big - 0.4) / 0.2).clip(0, 1)[rows[0]:rows[-1] + 1, columns[0]:columns[-1] + 1]
    scale = longer_side / max(stroke.shape)
    size = [max(round(side * scale), 1) for side in stroke.shape[::-1]]
    return np.asarray(Image.fromarray(stroke).resize(size, Image.Resampling.BILINEAR))


def _find_place(shape: tuple[int, ...], taken: list[Box], rng: np.random.RandomState) -> Box | None:
    """Find a place that hardly overlaps the other boxes, or return None after 50 tries."""
    height, width = shape
    for _ in range(50):
        x, y = rng.randint(IMAGE_SIZE - width + 1), rng.randint(IMAGE_SIZE - height + 1)
        if all(covered((x, y, width, height), other) <= MAX_COVERED for other in taken):
            return x, y, width, height
    return None


def covered(box: Box, other: Box) -> float:
    """The overlap of two boxes as a part of the smaller one."""
    sides = [min(box[i] + box[i + 2], other[i] + other[i + 2]) - max(box[i], other[i]) for i in (0, 1)]
    return max(sides[0], 0) * max(sides[1], 0) / min(box[2] * box[3], other[2] * other[3])


def _colour(brightness: tuple[int, int], rng: np.random.RandomState) -> np.ndarray:
    """A random color (3,), each channel within `brightness`."""
    return rng.uniform(*brightness, 3).astype(np.float32)


def _paper(rng: np.random.RandomState) -> np.ndarray:
    """A paper texture (192, 192, 3) float32: large color stains, a finer pattern and noise."""
    canvas = _colour(PAPER, rng) + rng.uniform(-6, 6, (IMAGE_SIZE, IMAGE_SIZE, 1)).astype(np.float32)
    for cells, strength in ((3, 30), (24, 12)):
        grid = rng.randint(128 - strength, 129 + strength, (cells, cells, 3)).astype(np.uint8)
        texture = Image.fromarray(grid).resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BICUBIC)
        canvas += np.asarray(texture, np.float32) - 128
    return canvas
