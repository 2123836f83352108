"""Make a COCO annotation file of any size, to measure how large files are read: random images, boxes and polygons."""
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
        _write(file, (_image(index) for index in range(images)))
        file.write('], "annotations": [')
        _write(file, _annotations(images, boxes, classes, points))
        categories = [{'id': index + 1, 'name': f'class {index}'} for index in range(classes)]
        file.write(f'], "categories": {json.dumps(categories)}}}')
    (args.out.parent / 'images').mkdir(exist_ok=True)
    Image.new('RGB', (640, 480)).save(args.out.parent / 'images' / '000000000000.jpg')
    print(f'{args.out}: {images} images, {boxes} boxes, {classes} classes, {args.out.stat().st_size / 2**20:.0f} MiB')


def _write(file, entries: Iterator[str]) -> None:  # type: ignore[no-untyped-def]
    for index, entry in enumerate(entries):
        file.write(entry if index == 0 else ', ' + entry)


def _image(index: int) -> str:
    width, height = (640, 480) if index % 4 else (427, 640)
    return (f'{{"license": 1, "file_name": "{index:012d}.jpg", "height": {height}, "width": {width}, '
            f'"date_captured": "2013-11-14 17:02:52", "id": {index}}}')


def _annotations(images: int, boxes: int, classes: int, points: int) -> Iterator[str]:
    rng = np.random.default_rng(0)
    for start in range(0, boxes, CHUNK):
        count = min(CHUNK, boxes - start)
        image_ids = rng.integers(images, size=count)
        labels = (classes * rng.random(count) ** 3).astype(int) + 1
        corners = rng.uniform(0, 300, (count, 4)).round(2)
        polygons = rng.uniform(0, 427, (count, 2 * points)).round(2).tolist()
        for index in range(count):
            x, y, width, height = corners[index].tolist()
            polygon = f'"segmentation": [{polygons[index]}], ' if points else ''
            yield (f'{{{polygon}"area": {width * height:.4f}, "iscrowd": {int(rng.random() < 0.01)}, '
                   f'"image_id": {image_ids[index]}, "bbox": [{x}, {y}, {width}, {height}], '
                   f'"category_id": {labels[index]}, "id": {start + index + 1}}}')


if __name__ == '__main__':
    main()
