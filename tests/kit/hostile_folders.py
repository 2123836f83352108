"""Folders of data that are broken, messy or made to harm, by name."""
from __future__ import annotations

import io
import json
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from .data_sets import (
    coco,
    like_darknet,
    like_ultralytics,
    one_image_folder,
    write_json,
    write_squares,
    xml_beside_images,
)

Write = Callable[[Path], object]


class Case(NamedTuple):
    """A folder, and what is said of it. Without a sentence, it can be used as a whole or in part."""
    name: str
    write: Write
    sentence: str = ''


def sound(root: Path) -> Path:
    """Eight small images with two classes in each of two splits."""
    return write_squares(root, ['cat', 'dog'])


def images_of(root: Path) -> list[Path]:
    return sorted(path for path in root.rglob('*') if path.suffix in ('.png', '.jpg'))


def changed(change: Callable[[dict[str, Any]], object], split: str = 'train') -> Write:
    """A sound data set whose COCO dict of a split is changed."""
    def write(root: Path) -> None:
        sound(root)
        content = json.loads((root / f'{split}.json').read_text())
        change(content)
        write_json(root / f'{split}.json', content)
    return write


def every_image(change: Callable[[Path], object], number: int | None = None) -> Write:
    """A sound data set whose images (the first `number`) are changed."""
    def write(root: Path) -> None:
        sound(root)
        for path in images_of(root)[:number]:
            change(path)
    return write


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and has a few bytes of pixels."""
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))
    return (b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', struct.pack('>IIBBBBB', width, height, 8, 2, 0, 0, 0))
            + chunk(b'IDAT', zlib.compress(b'\0' * 1000)) + chunk(b'IEND', b''))


def saved_as(mode: str, kind: str) -> Callable[[Path], object]:
    """The same picture in another mode and file format, under the old name."""
    def change(path: Path) -> None:
        picture = Image.open(path).convert('L' if mode == 'I;16' else mode)
        if mode == 'I;16':
            picture = Image.fromarray(np.asarray(picture, np.uint16) * 256)
        out = io.BytesIO()
        picture.save(out, kind)
        path.write_bytes(out.getvalue())
    return change


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:len(path.read_bytes()) // 2])


def with_links(root: Path) -> None:
    sound(root)
    os.mkfifo(root / 'pipe.json')
    os.mkfifo(root / 'pipe.png')
    (root / 'gone.json').symlink_to(root / 'nowhere.json')
    (root / 'loop').symlink_to(root)
    (root / 'self').symlink_to(root / 'self')
    (root / 'disk').symlink_to('/dev')


def an_image_is_a_pipe(root: Path) -> None:
    sound(root)
    path = images_of(root)[0]
    path.unlink()
    os.mkfifo(path)


def an_image_is_a_link_outside(root: Path) -> None:
    sound(root)
    path = images_of(root)[0]
    path.unlink()
    path.symlink_to('/dev/zero')


def only_images(root: Path) -> None:
    sound(root)
    for path in root.glob('*.json'):
        path.unlink()


def names_that_harm(root: Path) -> None:
    sound(root)
    content = json.loads((root / 'train.json').read_text())
    for image, name in zip(content['images'], ['\x1b[31mred.png', '$(touch ran).png', '-rf.png', "'; touch ran;'.png",
                                               'a\nb.png', '%s%n.png', '\u202egnp.png'], strict=False):
        old = next(path for path in images_of(root) if path.name == Path(image['file_name']).name)
        old.rename(old.with_name(name))
        image['file_name'] = str(Path(image['file_name']).with_name(name))
    write_json(root / 'train.json', content)


def names_of_bytes(root: Path) -> None:
    sound(root)
    path = images_of(root)[0]
    os.rename(os.fsencode(path), os.fsencode(path.parent) + b'/\xff\xfe.png')


def yaml_that_grows(root: Path) -> None:
    like_ultralytics(root)
    aliases = ''.join(f'a{n}: &a{n} [{", ".join([f"*a{n - 1}"] * 9 if n else ["x"] * 9)}]\n' for n in range(9))
    (root / 'data.yaml').write_text(aliases + 'train: *a8\nnames: [cat]\n')


def yaml_that_names_the_disk(root: Path) -> None:
    like_ultralytics(root)
    (root / 'data.yaml').write_text('train: /\nval: ../../../../../\nnames: [cat, dog, ant]\n')


def xml_that_grows(root: Path) -> None:
    xml_beside_images(root)
    entities = ''.join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10 if n else "ha"}">' for n in range(12))
    for path in root.rglob('*.xml'):
        path.write_text(f'<!DOCTYPE annotation [{entities}]><annotation><filename>&l11;</filename></annotation>')


def xml_of_the_disk(root: Path) -> None:
    xml_beside_images(root)
    for path in root.rglob('*.xml'):
        path.write_text(f'<!DOCTYPE annotation [<!ENTITY x SYSTEM "file:///etc/passwd">]>{path.read_text()}'
                        .replace('<name>dog', '<name>&x;'))


def infinite_lines(root: Path) -> None:
    like_darknet(root)
    for path in (root / 'train').glob('*.txt'):
        path.write_text('0 nan .5 .2 .2\n0 1e300 .5 1e300 .2\n1e9 .5 .5 .2 .2\n' + 'x' * 9999)


def two_forms(root: Path) -> None:
    one_image_folder(root)
    (root / 'a.xml').write_text('<annotation><filename>a.png</filename></annotation>')


def json_text(text: str) -> Write:
    def write(root: Path) -> None:
        sound(root)
        (root / 'train.json').write_text(text)
    return write


def shipped_columns(root: Path) -> None:
    sound(root)
    for split in ('train', 'val'):
        (root / f'.{split}.json.columns').write_bytes(b'\x93NUMPY' + b'\xff' * 5000)


def every_box(box: list[Any]) -> Write:
    return changed(lambda c: [one.update(bbox=box) for one in c['annotations']])


NOT_READ = 'no training split, only val (not used: 1 JSON file (another format): train.json'
HOSTILE = [
    Case('nothing', lambda root: root.mkdir(), 'holds 0 images, but no annotations'),
    Case('only images', only_images, 'holds 16 images, but no annotations'),
    Case('links, pipes and loops', with_links),
    Case('an image is a pipe', an_image_is_a_pipe, 'is not a regular file'),
    Case('an image is a device', an_image_is_a_link_outside, 'is not a regular file'),
    Case('images cut off', every_image(cut), 'image file is truncated'),
    Case('an image cut off', every_image(cut, 1), 'image file is truncated'),
    Case('images of no bytes', every_image(lambda path: path.write_bytes(b'')), 'cannot identify image file'),
    Case('images that are PostScript', every_image(lambda path: path.write_bytes(
        b'%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n%%EndComments\n(touch ran) system\n')),
         'cannot identify image file'),
    Case('an image of 4 gigapixels', every_image(lambda path: path.write_bytes(png_header(65500, 65500)), 1),
         'has more than 179 million pixels'),
    Case('an image of 2 billion rows', every_image(lambda path: path.write_bytes(png_header(1, 2 ** 31 - 1)), 1),
         'has more than 179 million pixels'),
    Case('16 bits', every_image(saved_as('I;16', 'PNG'))),
    Case('CMYK', every_image(saved_as('CMYK', 'TIFF'))),
    Case('palette', every_image(saved_as('P', 'GIF'))),
    Case('transparent', every_image(saved_as('RGBA', 'PNG'))),
    Case('one pixel', every_image(lambda path: Image.new('RGB', (1, 1)).save(path)),
         'is 1 x 1 pixels, but annotated as 64 x 64'),
    Case('narrow', every_image(lambda path: Image.fromarray(np.zeros((400, 3, 3), np.uint8)).save(path), 1),
         'is 3 x 400 pixels, but annotated as 64 x 64'),
    Case('names that harm', names_that_harm, 'has characters that are not text'),
    Case('names that are no text', names_of_bytes, 'train/1.png'),
    Case('class names that harm', changed(lambda c: [one.update(name=name) for one, name in zip(
        c['categories'], ['$(touch ran)', '=cmd|calc'], strict=True)])),
    Case('class names of control characters', changed(lambda c: c['categories'][0].update(name='\x1b[31m\0')),
         'has characters that are not text'),
    Case('a class name of 100,000 letters', changed(lambda c: c['categories'][0].update(name='x' * 100_000)),
         'has 100,000 characters, more than 10,000'),
    Case('no class', changed(lambda c: c.update(categories=[])), "has an empty list 'categories'"),
    Case('files outside', changed(lambda c: [one.update(file_name='../../../../etc/passwd') for one in c['images']]),
         "has 8 images called '../../../../etc/passwd'"),
    Case('boxes outside', every_box([1e6, 1e6, 5, 5]), 'is outside the image, 64 x 64'),
    Case('boxes of no area', every_box([5, 5, 0, 0]), 'none has an area'),
    Case('boxes of 1e30', every_box([-1e30, -1e30, 2e30, 2e30]), "needs 'bbox' as [x, y, width, height]"),
    Case('boxes of NaN', every_box([float('nan')] * 4), "needs 'bbox' as [x, y, width, height]"),
    Case('one box of NaN', changed(lambda c: c['annotations'][0].update(bbox=[float('nan')] * 4)),
         '1 error in the data'),
    Case('areas of 1e300', changed(lambda c: [one.update(area=1e300) for one in c['annotations']])),
    Case('all crowds', changed(lambda c: [one.update(iscrowd=1) for one in c['annotations']]),
         'all are left out (8 crowd or difficult)'),
    Case('an empty validation split', changed(lambda c: c.update(annotations=[]), 'val')),
    Case('no validation images', changed(lambda c: c.update(annotations=[], images=[]), 'val'),
         "has an empty list 'images'"),
    Case('one image twice', changed(lambda c: c['images'].append(c['images'][0])), "has 2 images called '1.png'"),
    Case('sizes of 1e18', changed(lambda c: [one.update(width=10 ** 18, height=10 ** 18) for one in c['images']]),
         "needs a positive number of pixels as 'width'"),
    Case('ids of 2**70', changed(lambda c: [one.update(id=2 ** 70) for one in c['images']]),
         "needs a whole number as 'id'"),
    Case('brackets', json_text('[' * 100_000), NOT_READ),
    Case('a list', json_text('[]'), NOT_READ),
    Case('not JSON', json_text('\0' * 1000), NOT_READ),
    Case('shipped columns', shipped_columns),
    Case('two forms', two_forms, 'holds COCO JSON (train.json) and Pascal VOC XML (a.xml)'),
    Case('YAML that grows', yaml_that_grows, 'is neither a path nor a list of paths'),
    Case('YAML that names the disk', yaml_that_names_the_disk, 'a folder that contains the whole data set'),
    Case('XML that grows', xml_that_grows, 'is not valid XML'),
    Case('XML of the disk', xml_of_the_disk, 'undefined entity &x;'),
    Case('lines that are no numbers', infinite_lines, 'is not a valid box'),
    Case('a cell of COCO only', lambda root: write_json(root / 'a.json', {**coco('train'), 'images': []}),
         "has an empty list 'images'"),
]
