"""Data made to harm end in one sentence, soon."""
from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from sparse_rcnn_mm.datasets.image_files import image_size
from sparse_rcnn_mm.errors import UserError
from sparse_rcnn_mm.own_data.inspection import data_errors
from sparse_rcnn_mm.own_data.reading import read_data
from tests.kit.data_sets import coco, like_darknet, like_ultralytics, one_image_folder, write_json, xml_beside_images

pytestmark = pytest.mark.timeout(60)
ALIASES = ''.join(f'a{n}: &a{n} [{", ".join([f"*a{n - 1}"] * 9 if n else ["x"] * 9)}]\n' for n in range(9))


def edit(root: Path, change: Callable[[dict], object]) -> None:
    content = coco('train')
    change(content)
    write_json(root / 'train.json', content)


@pytest.mark.parametrize(('change', 'where', 'sentence'), [
    (lambda c: c['annotations'][0].update(iscrowd='so'), 'annotation 1', "needs 0 or 1 as 'iscrowd', not 'so'"),
    (lambda c: c['images'][0].update(width=float('nan')), 'image 1', "number of pixels as 'width', not nan"),
    (lambda c: c['annotations'][0].update(bbox=[0, 0, float('inf'), 5]), 'annotation 1', "needs 'bbox' as [x, y"),
    (lambda c: c['annotations'][0].update(bbox=[0, 0, 10 ** 400, 5]), 'annotation 1', "needs 'bbox'"),
    (lambda c: c['annotations'][0].update(id=2 ** 70), 'annotation 118', "needs a whole number as 'id'"),
    (lambda c: c['categories'][0].update(name='\ud800'), 'category 3', 'has characters that are not text'),
    (lambda c: c['categories'][0].update(name='\x1b[31m'), 'category 3', 'has characters that are not text'),
    (lambda c: c['images'][0].update(file_name='a\0.png'), 'image 1', 'has characters that are not text'),
    (lambda c: c['annotations'][0].pop('bbox'), 'annotation 1', "needs 'bbox' as [x, y"),
])
def test_entries_that_make_no_sense(change: Callable[[dict], object], where: str, sentence: str,
                                    tmp_path: Path) -> None:
    one_image_folder(tmp_path)
    edit(tmp_path, change)
    fault = read_data(tmp_path).faults[0]
    assert where in fault.where and sentence in fault.what


def test_numbers_too_long_and_brackets_too_many(tmp_path: Path) -> None:
    one_image_folder(tmp_path)
    for text in ('[' * 100_000, '9' * 5000):
        (tmp_path / 'train.json').write_text('{"images": [], "annotations": [], "x": ' + text)
        with pytest.raises(UserError, match=r'train\.json is not valid JSON: '):
            read_data(tmp_path)


@pytest.mark.parametrize(('text', 'sentence'), [
    (ALIASES + 'names: *a8\n', "needs the class names as a list 'names'"),
    (ALIASES + 'train: *a8\nnames: [cat]\n', "'train' in .* is neither a path nor a list of paths"),
    ('names: ' + '[' * 5000, 'is not valid YAML: '),
    ('names: [cat, cat]\n', "has the name 'cat' twice"),
    ('names: {0: cat, 0: dog}\n', "it gives '0' twice"),
    ('names: [cat]\nkpt_shape: [1, 99999999999]\n', "'kpt_shape' in .* is not"),
    ('names: ["\\0"]\n', 'has characters that are not text'),
])
def test_yaml(text: str, sentence: str, tmp_path: Path) -> None:
    like_ultralytics(tmp_path)
    (tmp_path / 'data.yaml').write_text(text)
    with pytest.raises(UserError, match=sentence):
        read_data(tmp_path)


@pytest.mark.parametrize('line', ['0 nan .5 .2 .2', '0 .5 .5 inf .2', '0 1e300 .5 1e300 .2', '1e9 .5 .5 .2 .2',
                                  'x' * 9999])
def test_lines_of_yolo(line: str, tmp_path: Path) -> None:
    like_darknet(tmp_path)
    with (tmp_path / 'train/b.txt').open('a') as file:
        file.write(line)
    (fault,) = read_data(tmp_path).faults
    assert fault.where == 'train/b.txt:2' and len(fault.what) <= 300


def test_xml_that_grows(tmp_path: Path) -> None:
    """A billion laughs, and corners that are no numbers."""
    xml_beside_images(tmp_path)
    entities = ''.join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10 if n else "ha"}">' for n in range(12))
    path = tmp_path / 'train/a.xml'
    path.write_text(f'<!DOCTYPE annotation [{entities}]><annotation><filename>&l11;</filename></annotation>')
    other = tmp_path / 'train/b.xml'
    other.write_text(other.read_text().replace('<xmax>300', '<xmax>1e300'))
    assert [fault.where for fault in read_data(tmp_path).faults] == ['train/a.xml', 'train/b.xml: object 1']


def test_sizes_of_masks_are_checked_before_they_are_decoded(tmp_path: Path) -> None:
    """pycocotools writes beyond its memory otherwise."""
    one_image_folder(tmp_path)
    for runs in ({'counts': [5, 10 ** 9], 'size': [67, 101]}, {'counts': [1], 'size': [10 ** 9, 10 ** 9]},
                 {'counts': '~~~~', 'size': [67, 101]}, {'counts': 'oooo', 'size': [67, 101]},
                 {'counts': '3', 'size': [67, 101]}, {'counts': [6767], 'size': [101, 67]}):
        edit(tmp_path, lambda c, runs=runs: c['annotations'][0].update(bbox=None, segmentation=runs))
        assert [fault.where for fault in read_data(tmp_path).faults] == ['train.json: annotation 1']
    edit(tmp_path, lambda c: c['annotations'][0].update(bbox=[], segmentation={'counts': [67 * 3 + 5, 10, 6692 - 141],
                                                                               'size': [67, 101]}))
    raw = read_data(tmp_path)
    assert not raw.faults and raw.splits['train'].coco['annotations'][0]['bbox'] == [3, 5, 1, 10]


def test_an_orientation_that_is_text(tmp_path: Path) -> None:
    exif = b'Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x02\0\0\0\x04abc\0\0\0\0\0'
    Image.new('RGB', (20, 10)).save(tmp_path / 'a.jpg', exif=exif)
    assert image_size(str(tmp_path / 'a.jpg')) == (20, 10, '')


def test_huge_boxes_are_outside_or_refused(tmp_path: Path) -> None:
    one_image_folder(tmp_path)
    edit(tmp_path, lambda c: c['annotations'][0].update(bbox=[1e8, 1e8, 5, 5]))
    (error,) = data_errors(read_data(tmp_path))
    assert json.dumps(str(error)) and 'is outside the image, 101 x 67' in error.what


def test_a_file_name_longer_than_any_can_be(tmp_path: Path) -> None:
    one_image_folder(tmp_path)
    edit(tmp_path, lambda c: c['images'][0].update(file_name='x' * 5000))
    (error,) = data_errors(read_data(tmp_path))
    assert error.what.startswith('cannot be decoded')
