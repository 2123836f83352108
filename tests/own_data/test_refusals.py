"""What is refused or left out, with its sentence, and the nearest thing that is not."""
from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from mmengine.config import Config

from sparse_rcnn_mm.errors import UserError
from sparse_rcnn_mm.own_data.coco_entries import box_of, whole
from sparse_rcnn_mm.own_data.crowdhuman_form import convert
from sparse_rcnn_mm.own_data.forms import has_annotations
from sparse_rcnn_mm.own_data.inspection import Finding, Findings
from sparse_rcnn_mm.own_data.overview import ModelSettings, overview
from sparse_rcnn_mm.own_data.preparing import prepare
from sparse_rcnn_mm.own_data.raw_data import Box, Record, coco_of, split_of
from sparse_rcnn_mm.own_data.reading import read_data, scan
from sparse_rcnn_mm.own_data.report import data_of, report
from sparse_rcnn_mm.own_data.text import decode, name_fault, read_bytes
from sparse_rcnn_mm.own_data.yolo_form import is_label_file
from tests.kit import CONFIGS
from tests.kit.data_sets import like_open_images, write_image, write_json, write_squares

from .test_kinds import coco, only_split, write_text, yolo

Change = Callable[[Path], object]


def faults(root: Path) -> list[str]:
    return [f'{fault.where}: {fault.what}' for fault in read_data(root).faults]


def refuses(root: Path, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence) as caught:
        read_data(root)
    assert '\n' not in str(caught.value)


def of_yaml(**settings: str) -> Change:
    return lambda root: yolo(root, yaml=''.join(f'{key}: {value}\n' for key, value in {
        'train': 'images', 'names': '[red, blue]', **settings}.items()))


YOLO: list[tuple[Change, str]] = [
    (of_yaml(train='nowhere'), r'data\.yaml names nowhere, which is not in'),
    (of_yaml(train='x' * 5000), r'data\.yaml names x+, which is not in'),
    (of_yaml(train='labels'), r'data\.yaml names labels for the train split, which contains no image'),
    (of_yaml(train='list.txt'), r'list\.txt names the image images/9\.png, which is not in'),
    (of_yaml(val='images', valid='images'), 'gives the val split twice: keep one of val, valid and validation'),
    (of_yaml(comment='x' * 2**20), r'has 104\d{4} characters: a data\.yaml should contain only names and paths'),
    (of_yaml(train='../other'), r'names \.\./other, which could be .*/other or .*/data/other: write an absolute path'),
]


@pytest.mark.parametrize(('write', 'sentence'), YOLO, ids=lambda value: value[:40] if isinstance(value, str) else '')
def test_yaml_that_names_what_is_not_there(tmp_path: Path, write: Change, sentence: str) -> None:
    root = tmp_path / 'data'
    write_text(root / 'list.txt', 'images/0.png\nimages/9.png\n')
    for folder in (tmp_path / 'other', root / 'other'):
        write_image(folder / 'x.png', 40, 30)
    write(root)
    refuses(root, sentence)


def test_files_of_class_names_that_differ(tmp_path: Path) -> None:
    yolo(tmp_path)
    write_text(tmp_path / 'classes.txt', '\n')  # says nothing
    assert len(only_split(read_data(tmp_path)).coco['annotations']) == 6
    write_text(tmp_path / 'classes.txt', 'blue\nred\n')
    refuses(tmp_path, r'data\.yaml and classes\.txt in .* have different class names, or in a different order')
    (tmp_path / 'classes.txt').unlink()
    write_text(tmp_path / 'a.yaml', 'train: images\nnames: [red, green]\n')
    refuses(tmp_path, r'a\.yaml and data\.yaml in .* differ: pass the right one instead of the folder')
    for name in ('a.yaml', 'data.yaml'):
        (tmp_path / name).unlink()
    write_text(tmp_path / 'classes.txt', 'red\nblue\n')
    write_text(tmp_path / 'obj.names', 'blue\nred\n')
    refuses(tmp_path, r'classes\.txt and obj\.names in .* have different class names, or in a different order')


def test_two_label_files_of_an_image(tmp_path: Path) -> None:
    yolo(tmp_path)
    same = (tmp_path / 'labels/0.txt').read_text()
    write_text(tmp_path / 'images/0.txt', same)
    assert len(only_split(read_data(tmp_path)).coco['annotations']) == 6
    write_text(tmp_path / 'images/0.txt', same.replace('.25', '.26'))
    refuses(tmp_path, r'labels/0\.txt and .*images/0\.txt could both be the label file of 0\.png: remove one')


@pytest.mark.parametrize(('name', 'text', 'yes'), [
    ('a.txt', '0 .5 .5 .1 .1', True), ('a.TXT', '\ufeff 1.0 .5 .5 1e-3 +.1 \n', True),
    ('a.txt', '\nx\n0 1 2 3 4', True),
    ('a.txt', '0 .5 .5 .1', False), ('a.txt', '0.5 .5 .5 .1 .1', False), ('a.txt', 'x\n' * 5 + '0 1 2 3 4', False),
    ('a.md', '0 .5 .5 .1 .1', False), ('Classes.txt', '0 .5 .5 .1 .1', False), ('a.txt', '\0' * 9, False)])
def test_what_is_a_label_file(tmp_path: Path, name: str, text: str, yes: bool) -> None:
    write_text(tmp_path / name, text)
    assert is_label_file(tmp_path / name) is yes


def test_lines_with_other_numbers_of_keypoints(tmp_path: Path) -> None:
    """One point of three values: 8 numbers, or 5 without it."""
    lines = [' '.join(['0', *['.5'] * (count - 1)]) for count in (5, 7, 8, 9)]
    yolo(tmp_path, '\n'.join(lines), 'train: images\nnames: [red]\nkpt_shape: [1, 3]\n')
    assert faults(tmp_path)[:2] == [f'labels/0.txt:{line}: has {count} numbers, but by kpt_shape a box with keypoints '
                                    'has 8' for line, count in ((2, 7), (4, 9))]
    assert len(only_split(read_data(tmp_path)).coco['annotations']) == 6


def test_images_that_cannot_be_read(tmp_path: Path) -> None:
    yolo(tmp_path)
    (tmp_path / 'images/0.png').write_bytes(b'no image')
    (fault,) = faults(tmp_path)
    assert fault.startswith('images/0.png: ')
    assert [image['file_name'] for image in only_split(read_data(tmp_path)).coco['images']] == [
        'images/1.png', 'images/2.png']
    assert not any('0.png' in note for note in read_data(tmp_path).notes)  # a fault, not a file that is not used


def test_folders_without_labels_are_named(tmp_path: Path) -> None:
    yolo(tmp_path, yaml='')
    write_text(tmp_path / 'classes.txt', 'red\nblue\n')
    write_image(tmp_path / 'more/x.png', 40, 30)
    assert 'not used: 1 image (no image of the folder has a label file): more/x.png' in read_data(tmp_path).notes


def voc(root: Path, name: str, size: str = '', box: str = '1 2 11 22') -> None:
    corners = ''.join(f'<{side}>{value}</{side}>' for side, value in zip(
        ('xmin', 'ymin', 'xmax', 'ymax'), box.split(), strict=True))
    write_text(root / f'{name}.xml', f'<annotation><filename>{name}.png</filename>{size}<object><name>red</name>'
               f'<bndbox>{corners}</bndbox></object></annotation>')


def test_sizes_in_xml_that_are_no_numbers_are_measured(tmp_path: Path) -> None:
    for name, size in (('a', ''), ('b', '<size><width>wide</width><height>30</height></size>'),
                       ('c', '<size><width>0</width><height>30</height></size>'),
                       ('d', '<size><width>20.0</width><height>25</height></size>')):
        voc(tmp_path, name, size)
        write_image(tmp_path / f'{name}.png', 40, 30)
    images = only_split(read_data(tmp_path)).coco['images']
    assert [(image['width'], image['height']) for image in images] == [(40, 30)] * 3 + [(20, 25)]


def test_xml_without_size_and_image(tmp_path: Path) -> None:
    for name in 'ab':
        voc(tmp_path, name)
    write_image(tmp_path / 'a.png', 40, 30)
    (fault,) = faults(tmp_path)
    assert fault.startswith('b.png (the image of b.xml): ')
    (tmp_path / 'a.xml').write_text('<annotation><object></annotation>')
    refuses(tmp_path, r'no XML file in .* can be read: a\.xml is not valid XML: mismatched tag')


def test_lists_of_xml_files(tmp_path: Path) -> None:
    for folder in ('x', 'y'):
        voc(tmp_path / folder, 'a')
        write_image(tmp_path / folder / 'a.png', 40, 30)
    write_text(tmp_path / 'train.txt', 'x/a\n..\nz/b\n')
    data = read_data(tmp_path)
    assert [image['file_name'] for image in data.splits['train'].coco['images']] == ['x/a.png']
    assert '2 names in train.txt have no XML file, the first: ..' in data.notes
    write_text(tmp_path / 'train.txt', 'a\n')
    refuses(tmp_path, r'train\.txt in .* names a, which could be x/a\.xml or y/a\.xml: add the folder to the name')
    write_text(tmp_path / 'train.txt', 'b\n')
    refuses(tmp_path, 'no XML file in .* can be read: the image sets name none of them')
    write_text(tmp_path / 'train.txt', '\n')  # says nothing
    assert len(only_split(read_data(tmp_path)).coco['images']) == 2


def test_json_without_a_usable_box(tmp_path: Path) -> None:
    content = coco('0.png')
    write_image(tmp_path / '0.png', 40, 30)
    content['annotations'][0]['category_id'] = 2
    write_json(tmp_path / 'a.json', content)
    refuses(tmp_path, r'no JSON file in .* has a usable box: a\.json: annotation 1 has the category_id 2, which is not')


def test_json_with_two_entries_of_one_file(tmp_path: Path) -> None:
    write_image(tmp_path / 'images/0.png', 40, 30)
    write_json(tmp_path / 'a.json', coco('0.png', 'images/0.png'))
    refuses(tmp_path, r'images 1 and 2 of .*a\.json are both the file images/0\.png: keep one entry per file')


@pytest.mark.parametrize(('value', 'number'), [
    ('1', 1), ('007', 7), ('9' * 15, 10**15 - 1), ('9' * 16, '9' * 16), ('1.0', '1.0'), ('-1', '-1'), ('²', '²'),
    ('', ''), (2., 2), (2.5, 2.5), (float('inf'), float('inf')), (1e10, 1e10), (3, 3), (True, True),
    (None, None), ([1], [1])])
def test_ids_as_other_tools_write_them(value: object, number: object) -> None:
    assert whole(value) == number and type(whole(value)) is type(number)


@pytest.mark.parametrize(('path', 'split'), [
    ('train/a.json', 'train'), ('train/b/a.json', 'train'), ('instances_val2017.json', 'val'),
    ('train/val.json', 'val'), ('valid/train/a.json', 'train'), ('minival-eval.json', 'val'),
    ('test/train_val.json', 'test'), ('trains.json', ''), ('Testing.JSON', 'test'), ('a.train/b.json', 'train'),
    ('b.json', '')])
def test_the_split_in_a_name(path: str, split: str) -> None:
    assert split_of(Path(path)) == split


def test_boxes_become_coco() -> None:
    boxes = [Box('a', (1, 2, 4, 7), 'x:1', True), Box('b', (0, 0, 2, 2.5), 'x:2', segmentation=[[0, 0, 2, 0, 2, 2.5]])]
    found = coco_of([Record('empty.png', 8, 9, []), Record('x.png', 5, 6, boxes)], {'a': 3, 'b': 0})
    assert found == {
        'categories': [{'id': 3, 'name': 'a'}, {'id': 0, 'name': 'b'}],
        'images': [{'id': 1, 'file_name': 'empty.png', 'width': 8, 'height': 9},
                   {'id': 2, 'file_name': 'x.png', 'width': 5, 'height': 6}],
        'annotations': [{'id': 1, 'image_id': 2, 'category_id': 3, 'bbox': [1, 2, 3, 5], 'area': 15, 'iscrowd': 1,
                         'source': 'x:1'},
                        {'id': 2, 'image_id': 2, 'category_id': 0, 'bbox': [0, 0, 2, 2.5], 'area': 5, 'iscrowd': 0,
                         'source': 'x:2', 'segmentation': [[0, 0, 2, 0, 2, 2.5]]}]}


SIZE = {'width': 4, 'height': 3}


@pytest.mark.parametrize(('outline', 'box'), [
    ([[1, 2, 4, 2.5, 3, 7]], [1, 2, 3, 5]), ([[1, 2, 4, 2, 3, 3], [0, 1, 9, 9, 1, 1]], [0, 1, 9, 8]),
    ([[1, 2, 3]], None), ([['x', 1]], None), ([], None), ('x', None), ({}, None),
    # Column by column: the rows 1 and 2 of the columns 1 and 2.
    ({'size': [3, 4], 'counts': [4, 2, 1, 2, 3]}, [1, 1, 2, 2]), ({'size': [3, 4], 'counts': '42102'}, [1, 1, 2, 2]),
    ({'size': [3, 4], 'counts': [4, 2, 1, 2, 4]}, None), ({'size': [4, 3], 'counts': [4, 2, 1, 2, 3]}, None),
    ({'size': [3, 4], 'counts': [5, -1, 8]}, None), ({'size': [3, 4], 'counts': [4, 2., 6]}, None),
    ({'size': [3, 4], 'counts': '4~'}, None), ({'size': [3, 4], 'counts': 7}, None)])
def test_the_box_of_an_outline(outline: object, box: list[float] | None) -> None:
    assert box_of(outline, SIZE) == box


def test_an_area_of_0_is_that_of_the_box(tmp_path: Path) -> None:
    content = coco('0.png', '1.png')
    for number, area in enumerate((0, 77)):
        write_image(tmp_path / f'{number}.png', 40, 30)
        content['annotations'][number]['area'] = area
    write_json(tmp_path / 'a.json', content)
    (split,) = prepare(read_data(tmp_path), split=False).splits.values()
    assert [box['area'] for box in split['annotations']] == [120, 77]


@pytest.mark.parametrize(('area', 'kept'), [(None, 120), ('77', 120), (float('nan'), 120), (77.5, 77.5)])
def test_an_area_that_is_no_number_is_that_of_the_box(tmp_path: Path, area: object, kept: float) -> None:
    content = coco('0.png')
    content['annotations'][0]['area'] = area
    write_image(tmp_path / '0.png', 40, 30)
    write_json(tmp_path / 'a.json', content)
    assert [box['area'] for box in only_split(read_data(tmp_path)).coco['annotations']] == [kept]


def test_one_image_cannot_be_split(tmp_path: Path) -> None:
    write_image(tmp_path / '0.png', 40, 30)
    write_json(tmp_path / 'a.json', coco('0.png'))
    with pytest.raises(UserError, match='has only one image: training and validation need at least one each'):
        prepare(read_data(tmp_path))
    write_image(tmp_path / '1.png', 40, 30)
    write_json(tmp_path / 'a.json', coco('0.png', '1.png'))
    assert {name: len(part['images']) for name, part in prepare(read_data(tmp_path)).splits.items()} == {
        'train': 1, 'val': 1}


NAMES = 'class-descriptions-boxable.csv'
ROWS = 'train-annotations-bbox.csv'


@pytest.mark.parametrize(('file', 'text', 'sentence'), [
    (NAMES, '/m/01yrx,cat\n/m/0bt9lr,cat\n', r'two labels in the class descriptions of .* have the name cat: rename'),
    (NAMES, ''.join(f'/m/{n},{min(n, 2998)}\n' for n in range(3000)), 'have the name 2998: rename'),
    (NAMES, '/m/01yrx,cat\n/m/01yrx,cow\n', r'the label /m/01yrx is cat, but cow in .*boxable\.csv: keep one'),
    (NAMES, '/m/01yrx,' + 'x' * 200_000, r'boxable\.csv is not valid CSV: field larger than field limit'),
    (ROWS, 'ImageID,LabelName,XMin,XMax,YMin,YMax\nz,/m/01yrx,0,1,0,1\n',
     r'the images of .*bbox\.csv are not in .*: the first is z$')])
def test_open_images_that_cannot_be_read(tmp_path: Path, file: str, text: str, sentence: str) -> None:
    like_open_images(tmp_path)
    (tmp_path / file).write_text(text)
    refuses(tmp_path, sentence)


def test_rows_of_open_images_that_are_left_out(tmp_path: Path) -> None:
    like_open_images(tmp_path)
    rows = ['b,/m/01yrx,0.1,0.2,0.3,0.4', 'a,/m/01yrx,0.1,0.2,0.3', 'z,/m/01yrx,0.1,0.2,0.3,0.4',
            'b,/m/01yrx,0.2,0.1,0.3,0.4', 'b,/m/01yrx,0,1,0,1.002', 'b,/m/01yrx,0,1,x,1', 'b, ,0,1,0,1', '',
            'b,/m/new,0,1.001,0,1', 'b,/m/01yrx,0,1.002,0,1', 'b,/m/01yrx,-0.1,1,0,1', 'b,/m/01yrx,0,1,-0.1,1',
            'b,/m/01yrx,0,1,0.4,0.3']
    (tmp_path / ROWS).write_text('\n'.join(['ImageID,LabelName,XMin,XMax,YMin,YMax', *rows]))
    assert faults(tmp_path) == [
        f'{ROWS}:3: has 5 columns, not 6',
        f'{ROWS}:5: is not a valid box: 0.2, 0.1, 0.3, 0.4 are not ordered pairs between 0 and 1',
        f'{ROWS}:6: is not a valid box: 0.0, 1.0, 0.0, 1.002 are not ordered pairs between 0 and 1',
        f"{ROWS}:7: is not a valid box (could not convert string to float: 'x')",
        f'{ROWS}:8: has a class name that is empty',
        *(f'{ROWS}:{line}: is not a valid box: {numbers} are not ordered pairs between 0 and 1' for line, numbers in (
            (11, '0.0, 1.002, 0.0, 1.0'), (12, '-0.1, 1.0, 0.0, 1.0'), (13, '0.0, 1.0, -0.1, 1.0'),
            (14, '0.0, 1.0, 0.4, 0.3'))),
        f'z (line 4 of {ROWS}): there is no such image']
    train = read_data(tmp_path).splits['train'].coco
    names = {category['id']: category['name'] for category in train['categories']}
    boxes = [(names[box['category_id']], [round(value, 3) for value in box['bbox']]) for box in train['annotations']]
    assert boxes == [('cat', [64, 144, 64, 48]), ('/m/new', [0, 0, 640.64, 480])]


def test_a_folder_without_odgt(tmp_path: Path) -> None:
    with pytest.raises(UserError, match='holds no odgt file'):
        convert(str(tmp_path), tmp_path / 'out')


def test_whether_a_folder_holds_annotations(tmp_path: Path) -> None:
    write_image(tmp_path / '0.png', 40, 30)
    assert not has_annotations(scan(tmp_path))
    (tmp_path / 'a.json').write_text('{"shapes": [], "imagePath": "0.png"}')
    assert has_annotations(scan(tmp_path))  # LabelMe's, which are not supported
    write_json(tmp_path / 'a.json', coco('0.png'))
    assert has_annotations(scan(tmp_path))


def test_text_that_says_too_little(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r'cannot read .*none: No such file or directory'):
        read_bytes(tmp_path / 'none')
    with pytest.raises(UserError, match=r'cannot read .*: embedded null byte'):
        read_bytes(tmp_path / 'a\0')
    assert name_fault(' ') == 'is empty' and name_fault('a b') == ''
    for declared in ('nonsense', 'base64', 'utf-8'):
        text = f'<?xml version="1.0" encoding="{declared}"?><a>Käse</a>'
        assert decode(text.encode(), tmp_path) == (text, '')


def test_the_data_of_a_config(tmp_path: Path) -> None:
    folder = write_squares(tmp_path, ['red', 'blue'])
    cfg = Config.fromfile(CONFIGS / 'sparse_rcnn_r18_digits.py')
    for part in ('train', 'val'):
        dataset = cfg[f'{part}_dataloader'].dataset
        dataset.update(data_root=str(folder), ann_file=f'{part}.json', data_prefix=dict(img=f'{part}/'))
    data = data_of(cfg)
    assert {name: (len(split.coco['images']), split.coco['images'][0]['file_name'])
            for name, split in data.splits.items()} == {'train': (8, '1.png'), 'val': (8, '../val/1.png')}
    (folder / 'val.json').unlink()
    with pytest.raises(UserError, match=r'annotation file not found: .*/val\.json, the val data of the config'):
        data_of(cfg)


def test_long_lists_of_findings_are_shortened() -> None:
    found = Findings([Finding('a', f'x{number}', 'is bad') for number in range(4)], [Finding('b', 'y', 'is odd')])
    assert report(found, most=2) == ('4 errors\n  x0: is bad\n  x1: is bad\n  ... and 2 more of this kind (a)\n\n'
                                     '1 warning\n  y: is odd')
    assert report(found, most=4).count('more') == report(found).count('more') == 0


def test_the_overview_of_many_classes_and_of_nothing(tmp_path: Path) -> None:
    """42 classes, of which 40 are shown; a split in which all boxes are without area has no sizes."""
    write_image(tmp_path / '0.png', 40, 30)
    content = coco('0.png')
    content['categories'] = [{'id': number, 'name': f'class {number}'} for number in range(1, 43)]
    write_json(tmp_path / 'a.json', content)
    cfg = Config.fromfile(CONFIGS / 'sparse_rcnn_r18_digits.py')
    cfg.train_dataloader.dataset = dict(type='RepeatDataset', times=2, dataset=cfg.train_dataloader.dataset)
    settings = ModelSettings.of(cfg)
    assert settings == ModelSettings.of(Config.fromfile(CONFIGS / 'sparse_rcnn_r18_digits.py'))
    lines = overview(read_data(tmp_path), settings).split('\n')
    assert '... and 2 more classes' in lines and sum(line.startswith('class ') for line in lines) == 41
    content['annotations'][0]['bbox'] = [1, 1, 0, 5]
    (tmp_path / 'a.json').write_text(json.dumps(content))
    *_, last = overview(read_data(tmp_path), settings).split('\n')
    assert last.strip() in ('as they are', *(f'testing: {settings.test_side}',)) or last.startswith('training')
