"""Variations of the kinds of data sets that users have: what is read, or the sentence. None is silently wrong."""
from __future__ import annotations

import json
import os
import unicodedata
import zipfile
from pathlib import Path
from typing import Any

import pytest

from sparse_rcnn_mm.cli.inspect_dataset import main as inspect
from sparse_rcnn_mm.datasets import CocoDataset
from sparse_rcnn_mm.errors import UserError
from sparse_rcnn_mm.own_data.preparing import prepare
from sparse_rcnn_mm.own_data.raw_data import RawData, Split
from sparse_rcnn_mm.own_data.reading import read_data
from tests.kit.data_sets import write_image, write_json

TWO = '0 .5 .5 .5 .5\n1 .25 .25 .1 .1\n'


def yolo(root: Path, label: str = TWO, yaml: str = 'train: images\nnames: [red, blue]\n') -> None:
    for number in range(3):
        write_image(root / f'images/{number}.png', 40, 30)
        write_text(root / f'labels/{number}.txt', label)
    if yaml:
        write_text(root / 'data.yaml', yaml)


def write_text(path: Path, text: str, encoding: str = 'utf-8') -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode(encoding))


def coco(*names: str) -> dict[str, Any]:
    return {'images': [{'id': number, 'file_name': name, 'width': 40, 'height': 30}
                       for number, name in enumerate(names, start=1)],
            'annotations': [{'id': number, 'image_id': number, 'category_id': 1, 'bbox': [4, 5, 10, 12]}
                            for number in range(1, len(names) + 1)],
            'categories': [{'id': 1, 'name': 'Käse'}]}


def only_split(data: RawData) -> Split:
    (split,) = data.splits.values()
    return split


def class_names(data: RawData) -> list[str]:
    return [category['name'] for category in only_split(data).coco['categories']]


@pytest.mark.parametrize('encoding', ['utf-8-sig', 'utf-16', 'utf-16-be', 'utf-16-le', 'utf-32', 'utf-32-le',
                                      'latin-1'])
def test_json_in_any_encoding(tmp_path: Path, encoding: str) -> None:
    write_image(tmp_path / 'images/0.png', 40, 30)
    write_text(tmp_path / 'a.json', json.dumps(coco('0.png'), ensure_ascii=False), encoding)
    data = read_data(tmp_path)
    assert class_names(data) == ['Käse'] and len(only_split(data).coco['annotations']) == 1
    said = any('a.json is not in UTF-8 and is read as Latin-1' in note for note in data.notes)
    assert said == (encoding == 'latin-1')


@pytest.mark.parametrize(('encoding', 'names'), [
    ('koi8-r', 'машина лошадь'), ('cp1251', 'красный синий'), ('big5', '紅色 藍色'), ('shift_jis', '赤 青い車'),
    ('euc-jp', 'くるま ねこ')])
def test_encodings_that_could_be_another_are_not_guessed(tmp_path: Path, encoding: str, names: str) -> None:
    yolo(tmp_path, yaml='')
    write_text(tmp_path / 'classes.txt', names.replace(' ', '\n'), encoding)
    with pytest.raises(UserError, match=r'classes\.txt is not in UTF-8, and its encoding is ambiguous'):
        read_data(tmp_path)
    (tmp_path / 'classes.txt').rename(tmp_path / 'data.yaml')
    write_text(tmp_path / 'data.yaml', f'train: images\nnames: [{", ".join(names.split())}]\n', encoding)
    with pytest.raises(UserError, match=r'data\.yaml is not in UTF-8, and its encoding is ambiguous'):
        read_data(tmp_path)


def test_names_of_files_that_are_no_text(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """Bytes of another encoding, as archives of Windows leave them: used, or named as not used, and trained on."""
    yolo(tmp_path)
    for path in (tmp_path / 'images/0.png', tmp_path / 'labels/0.txt'):
        os.rename(path, os.fsencode(path.parent) + b'/\xe4' + os.fsencode(path.suffix))
    write_image(tmp_path / 'other/0.png', 40, 30)
    os.rename(tmp_path / 'other/0.png', os.fsencode(tmp_path) + b'/other/\xe4.png')
    assert inspect([str(tmp_path), '--out', str(tmp_path / 'out'), '--pictures', '0']) == 0
    written = (tmp_path / 'out/inspection.txt').read_text()
    assert r'not used: 1 image (no annotation names them): other/\udce4.png' in written
    assert r'other/\udce4.png' in capsys.readouterr().out
    (path,) = prepare(read_data(tmp_path), split=False).write(tmp_path / 'work').values()
    dataset = CocoDataset(ann_file=str(path), data_root=str(tmp_path), metainfo={'classes': ('red', 'blue')},
                          pipeline=[])
    places = [dataset.get_data_info(index)['img_path'] for index in range(len(dataset))]
    assert len(places) == 3 and all(map(os.path.isfile, places))


@pytest.mark.parametrize(('written', 'there'), [
    (unicodedata.normalize('NFC', 'Käfer.png'), unicodedata.normalize('NFD', 'Käfer.png')),
    (unicodedata.normalize('NFD', 'Käfer.png'), unicodedata.normalize('NFC', 'Käfer.png')),
    ('my%20photo.png', 'my photo.png'), ('100%20.png', '100%20.png'), ('https://x.org/b/0.png?raw=1', '0.png'),
    ('0123abcd', '0123abcd'), ('deep\\er\\0.png', 'deep/er/0.png')])
def test_names_of_images_as_other_systems_write_them(tmp_path: Path, written: str, there: str) -> None:
    """Accents of macOS, addresses, no suffix, backslashes."""
    write_image(tmp_path / 'x.png', 40, 30)
    (tmp_path / 'images' / there).parent.mkdir(parents=True)
    (tmp_path / 'x.png').rename(tmp_path / 'images' / there)
    write_json(tmp_path / 'a.json', coco(written))
    data = read_data(tmp_path)
    assert only_split(data).coco['images'][0]['file_name'] == f'images/{there}'
    assert not any('not used' in note for note in data.notes)


def test_a_side_that_is_missing_is_measured(tmp_path: Path) -> None:
    write_image(tmp_path / 'images/0.png', 40, 30)
    content = coco('0.png')
    del content['images'][0]['width']
    write_json(tmp_path / 'a.json', content)
    (image,) = only_split(read_data(tmp_path)).coco['images']
    assert (image['width'], image['height']) == (40, 30)


def test_xml_with_a_namespace(tmp_path: Path) -> None:
    write_image(tmp_path / '0.png', 40, 30)
    write_text(tmp_path / '0.xml', '<annotation xmlns="http://x.org/y"><!-- a --><filename>0.png</filename><object>'
               '<name>red</name><bndbox><xmin>4</xmin><ymin>5</ymin><xmax>14</xmax><ymax>17</ymax></bndbox></object>'
               '</annotation>')
    assert [box['bbox'] for box in only_split(read_data(tmp_path)).coco['annotations']] == [[4, 5, 10, 12]]


@pytest.mark.parametrize(('change', 'sentence'), [
    ({'yaml': 'train: images\nnc: 3\nnames: [red, blue]\n'}, r"data\.yaml has 2 names, but says 'nc: 3'"),
    ({'yaml': 'train: images\nnc: [2]\nnames: [red, blue]\n'}, 'has 2 names, but says'),
    ({'yaml': 'train: images\nnames: {0: red, 2: blue}\n'}, 'must be 0 to 1 without gaps'),
    ({'yaml': 'train: images\nnames: red, blue\n'}, 'needs the class names as a list'),
    ({'label': '0 .5 .5 .2 .2 .4 .4 2 .6 .6 1\n'}, 'look like boxes with keypoints, the first: labels/0.txt:1 is'),
    ({'label': '0 .5 .5 .2 .2 .4 .4 2\n'}, 'keypoints need kpt_shape in data.yaml'),
    ({'label': '0 .1 .1 .9 .95\n0 .6 .6 .99 .98\n'}, 'look like x1, y1, x2, y2: .* 6 of 6 reach beyond'),
    ({'label': '0 .5 .5 .2 .2 .91\n'}, 'has 6 numbers'), ({'label': '0 0,5 0,5 0,2 0,2\n'}, 'is not a valid box')])
def test_what_is_wrong_in_all_lines_is_a_sentence(tmp_path: Path, change: dict[str, str], sentence: str) -> None:
    yolo(tmp_path, **change)
    with pytest.raises(UserError, match=sentence):
        read_data(tmp_path)


@pytest.mark.parametrize(('label', 'boxes'), [
    ('0 .1 .1 .5 .1 .5 .5\n', 1), ('0 .3 .3 .4 .5\n0 .5 .5 .6 .6\n', 2),
    (TWO.replace(' ', '\t').replace('\n', '\r'), 2),
    ('0 0 0 1 0 1 1 0 1 0 .5\n', 1),
    ('0 .5 .5 .2 .2 .4 .4 2 .6 .6 1\n0 .5 .5 .2 .2\n', 2)])  # half of the lines look like boxes with keypoints
def test_lines_that_only_resemble_a_mistake_are_read(tmp_path: Path, label: str, boxes: int) -> None:
    yolo(tmp_path, label)
    assert len(only_split(read_data(tmp_path)).coco['annotations']) == 3 * boxes


def test_linked_folders_are_used_and_not_said_to_be_left_out(tmp_path: Path) -> None:
    yolo(tmp_path / 'real', yaml='')
    (tmp_path / 'set').mkdir()
    for name in ('images', 'labels'):
        (tmp_path / 'set' / name).symlink_to(tmp_path / 'real' / name)
    write_text(tmp_path / 'set/data.yaml', 'train: images\nnames: [red, blue]\n')
    data = read_data(tmp_path / 'set')
    assert [image['file_name'] for image in only_split(data).coco['images']] == [f'images/{i}.png' for i in range(3)]
    assert len(only_split(data).coco['annotations']) == 6 and not data.notes


def test_pictures_and_archives_that_are_not_read_are_named(tmp_path: Path) -> None:
    yolo(tmp_path / 'a')
    (tmp_path / 'a/images/9.HEIC').write_bytes(b'ftypheic')
    assert 'not used: 1 picture (an unsupported type): images/9.HEIC' in read_data(tmp_path / 'a').notes
    (tmp_path / 'b').mkdir()
    with zipfile.ZipFile(tmp_path / 'b/data.zip', 'w') as archive:
        archive.writestr('0.txt', TWO)
    for place in (tmp_path / 'b', tmp_path / 'b/data.zip'):
        with pytest.raises(UserError, match=r'but an archive: unpack data\.zip'):
            read_data(place)
