"""Make a COCO annotation file of any size, with random images, boxes and polygons, to measure reading."""
from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

CHUNK = 10_000
# Images, boxes, classes and points of a polygon, about as the public set has them.
SIZES = {'coco': (118_000, 860_000, 80, 14), 'objects365': (2_000_000, 25_000_000, 365, 0)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('out', type=Path, help='JSON file to write; images/ beside it gets one image')
    parser.add_argument('--like', choices=SIZES, default='coco', help='public set whose size it has (default: coco)')
    parser.add_argument('--part', type=float, default=1., help='this part of the size, e.g. 0.01')
    args = parser.parse_args()
    images, boxes, classes, points = SIZES[args.like]
    images, boxes = round(images * args.part), round(boxes * args.part)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    with args.out.open('w') as file:
        file.write('{"info": {"description": "random"}, "images": [')
        file.writelines(_images(images))
        file.write('], "annotations": [')
        file.writelines(_annotations(images, boxes, classes, points))
        categories = [{'id': index + 1, 'name': f'class {index}'} for index in range(classes)]
        file.write(f'], "categories": {json.dumps(categories)}}}')
    (args.out.parent / 'images').mkdir(exist_ok=True)
    Image.new('RGB', (640, 480)).save(args.out.parent / 'images' / '000000000000.jpg')
    print(f'{args.out}: {images} images, {boxes} boxes, {classes} classes, {args.out.stat().st_size / 2**20:.0f} MiB')


def _images(count: int) -> Iterator[str]:
    for index in range(count):
        width, height = (640, 480) if index % 4 else (427, 640)
        yield (f'{", " if index else ""}{{"license": 1, "file_name": "{index:012d}.jpg", "height": {height}, '
               f'"width": {width}, "date_captured": "2013-11-14 17:02:52", "id": {index}}}')


def _annotations(images: int, boxes: int, classes: int, points: int) -> Iterator[str]:
    """Parts of the list, each of many entries; every hundredth is a crowd, and few classes have most of the boxes."""
    polygon = f'"segmentation": [[{", ".join(["%.2f"] * 2 * points)}]], ' if points else ''
    form = (f'{{{polygon}"area": %.4f, "iscrowd": %d, "image_id": %d, "bbox": [%.2f, %.2f, %.2f, %.2f], '
            '"category_id": %d, "id": %d}')
    rng = np.random.default_rng(0)
    for start in range(0, boxes, CHUNK):
        count = min(CHUNK, boxes - start)
        corners = rng.uniform(0, 300, (count, 4)).round(2)
        rows = np.concatenate([
            rng.uniform(0, 427, (count, 2 * points)), corners[:, 2:3] * corners[:, 3:], rng.random((count, 1)) < 0.01,
            rng.integers(images, size=(count, 1)), corners, classes * rng.random((count, 1)) ** 3 + 1,
            np.arange(start + 1, start + count + 1)[:, None]], axis=1)
        yield (', ' if start else '') + ', '.join([form % tuple(row) for row in rows.tolist()])


if __name__ == '__main__':
    main()
