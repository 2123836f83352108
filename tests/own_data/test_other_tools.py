"""What annotation tools and file systems write beside the usual: it is read, said or refused, never silently wrong."""
from __future__ import annotations

import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mmengine.config import Config
from PIL import Image

from sparse_rcnn_mm.errors import UserError
from sparse_rcnn_mm.own_data.config import HeldOut, _held_out_before, _hold_out
from sparse_rcnn_mm.own_data.held_out import find_held_out, held_out_lines
from sparse_rcnn_mm.own_data.inspection import data_errors
from sparse_rcnn_mm.own_data.preparing import check_left, prepare
from sparse_rcnn_mm.own_data.raw_data import RawData, turned
from sparse_rcnn_mm.own_data.reading import read_data
from tests.kit.data_sets import write_image, write_json

from .test_kinds import coco, write_text

LINE = '0 .5 .5 .5 .5\n'


def boxes_of(data: RawData) -> dict[str, list[list[float]]]:
    """File name -> boxes, of all splits."""
    found: dict[str, list[list[float]]] = {}
    for split in data.splits.values():
        for image in split.coco['images']:
            found[image['file_name']] = [box['bbox'] for box in split.coco['annotations']
                                         if box['image_id'] == image['id']]
    return found


def darknet(root: Path, lists: dict[str, str], names: str = 'red\nblue\n') -> None:
    for number in range(4):
        write_image(root / f'obj/{number}.png', 40, 30)
        write_text(root / f'obj/{number}.txt', LINE)
    write_text(root / 'classes.txt', names)
    for name, text in lists.items():
        write_text(root / name, text)


def test_lists_of_images_decide_without_a_word_elsewhere(tmp_path: Path) -> None:
    darknet(tmp_path, {'train.txt': 'obj/0.png\nC:\\data\\obj\\2.png\n', 'valid.txt': 'obj/3.png\n'})
    data = read_data(tmp_path)
    assert {name: [image['file_name'] for image in split.coco['images']] for name, split in data.splits.items()} == {
        'train': ['obj/0.png', 'obj/2.png'], 'val': ['obj/3.png']}
    assert 'splits from the lists train.txt and valid.txt' in data.notes
    assert 'not used: 1 image (no list of images names them): obj/1.png' in data.notes


def test_lists_without_a_training_list_are_named(tmp_path: Path) -> None:
    darknet(tmp_path, {'all.txt': 'obj/0.png\n', 'valid.txt': 'obj/3.png\n'})
    data = read_data(tmp_path)
    assert list(data.splits) == [''] and len(boxes_of(data)) == 4
    assert 'not used: 2 lists (of images): all.txt, valid.txt' in data.notes


@pytest.mark.parametrize(('lists', 'sentence'), [
    ({'train.txt': 'obj/0.png\n', 'a/train.txt': 'obj/1.png\n'}, 'could both hold the train split'),
    ({'train.txt': 'obj/0.png\nobj/7.png\n'}, 'train.txt names the image obj/7.png, which is not in')])
def test_lists_that_cannot_be_followed_are_refused(tmp_path: Path, lists: dict[str, str], sentence: str) -> None:
    darknet(tmp_path, lists)
    with pytest.raises(UserError, match=sentence):
        read_data(tmp_path)


def test_an_empty_line_between_class_names_is_refused(tmp_path: Path) -> None:
    darknet(tmp_path, {}, names='red\n\nblue\n')
    with pytest.raises(UserError, match='line 2 of .*classes.txt is empty'):
        read_data(tmp_path)
    write_text(tmp_path / 'classes.txt', 'red\nblue\n\n\n')
    assert [category['name'] for category in read_data(tmp_path).splits[''].coco['categories']] == ['red', 'blue']


def test_a_label_file_in_another_case_or_form_of_accents_belongs_to_its_image(tmp_path: Path) -> None:
    for image, label in (('IMG_1.JPG', 'IMG_1.TXT'), ('IMG_2.JPG', 'img_2.txt'), ('é.jpg', 'é.txt')):
        write_image(tmp_path / 'images' / image, 40, 30)
        write_text(tmp_path / 'Labels' / unicodedata.normalize('NFD', label), LINE)
    write_text(tmp_path / 'data.yaml', 'train: images\nnames: [red]\n')
    assert [len(boxes) for boxes in boxes_of(read_data(tmp_path)).values()] == [1, 1, 1]
    write_text(tmp_path / 'Labels' / 'IMG_2.Txt', LINE)
    with pytest.raises(UserError, match=r'IMG_2.Txt and Labels/img_2.txt in .* could both be IMG_2.txt: remove one'):
        read_data(tmp_path)


def test_an_image_of_another_split_is_not_taken_for_a_missing_one(tmp_path: Path) -> None:
    for name in ('train/images/0.png', 'train/images/1.png', 'valid/images/2.png'):
        write_image(tmp_path / name, 40, 30)
    write_json(tmp_path / 'train/x.json', coco('images/0.png'))
    write_json(tmp_path / 'valid/x.json', coco('images/1.png', 'images/2.png'))
    (error,) = data_errors(read_data(tmp_path))
    assert error.where.startswith('valid/images/1.png') and error.what == 'there is no such image'


def test_all_images_may_lie_in_the_folder_of_one_split(tmp_path: Path) -> None:
    for number in range(3):
        write_image(tmp_path / f'train/{number}.png', 40, 30)
    write_json(tmp_path / 'annotations/train.json', coco('0.png', '1.png'))
    write_json(tmp_path / 'annotations/val.json', coco('2.png'))
    data = read_data(tmp_path)
    assert [image['file_name'] for image in data.splits['val'].coco['images']] == ['train/2.png']
    assert ('the images of annotations/val.json are in the folder of another split: train/2.png, ...') in data.notes


@pytest.mark.parametrize('table', [b'a,b\rc,d\re,f', 'a,b\n'.encode('utf-16')])
def test_tables_of_other_systems_are_only_named(tmp_path: Path, table: bytes) -> None:
    write_image(tmp_path / '0.png', 40, 30)
    write_json(tmp_path / 'a.json', coco('0.png'))
    (tmp_path / 'table.csv').write_bytes(table)
    assert 'not used: 1 CSV file (another format): table.csv' in read_data(tmp_path).notes


def test_the_upright_box_around_a_turned_one() -> None:
    assert turned((20, 20, 44, 24), 90) == pytest.approx((30, 10, 34, 34))
    assert turned((0, 0, 2, 2), 45) == pytest.approx((1 - 2 ** .5, 1 - 2 ** .5, 1 + 2 ** .5, 1 + 2 ** .5))
    assert turned((0, 0, 8, 6), 180) == pytest.approx((0, 0, 8, 6))


@pytest.mark.parametrize('form', ['coco', 'voc'])
def test_boxes_that_cvat_turns(tmp_path: Path, form: str) -> None:
    write_image(tmp_path / '0.png', 64, 48)
    if form == 'coco':
        content = coco('0.png')
        content['images'][0].update(width=64, height=48)
        content['annotations'][0].update(bbox=[20, 20, 24, 4], attributes={'occluded': False, 'rotation': 450.0})
        write_json(tmp_path / 'a.json', content)
    else:
        write_text(tmp_path / '0.xml', '<annotation><filename>0.png</filename><size><width>64</width>'
                   '<height>48</height></size><object><name>a</name><attributes><attribute><name>rotation</name><value>90.0</value>'
                   '</attribute></attributes><bndbox><xmin>20</xmin><ymin>20</ymin><xmax>44</xmax><ymax>24</ymax>'
                   '</bndbox></object></annotation>')
    data = read_data(tmp_path)
    assert boxes_of(data)['0.png'] == [pytest.approx([30, 10, 4, 24])]
    assert "boxes with CVAT's attribute rotation: the upright box around each is used" in data.notes


@pytest.mark.parametrize(('flag', 'ignored'), [('1', 1), ('1.0', 1), (' True ', 1), ('yes', 1), ('0', 0), ('', 0),
                                               ('false', 0), ('maybe', None)])
def test_difficult_as_others_write_it(tmp_path: Path, flag: str, ignored: int | None) -> None:
    write_image(tmp_path / '0.png', 64, 48)
    box = '<bndbox><xmin>2</xmin><ymin>2</ymin><xmax>9</xmax><ymax>9</ymax></bndbox>'
    write_text(tmp_path / '0.xml', f'<annotation><filename>0.png</filename><object><name>a</name>{box}</object><object>'
               f'<name>a</name><difficult>{flag}</difficult>{box}</object></annotation>')
    data = read_data(tmp_path)
    crowds = [box['iscrowd'] for box in data.splits[''].coco['annotations']]
    assert crowds == ([0] if ignored is None else [0, ignored])
    assert [fault.what for fault in data.faults] == (["needs 0 or 1 as difficult, not 'maybe'"] if ignored is None
                                                     else [])


def test_the_metric_does_not_count_boxes_to_ignore(tmp_path: Path) -> None:
    """pycocotools looks at `iscrowd` only, and writes over `ignore`."""
    content = coco('0.png', '1.png', '2.png')
    content['annotations'][1]['ignore'] = 1
    content['annotations'][2]['segmentation'] = [[1, 1, 5, 5]]
    for number in range(3):
        write_image(tmp_path / f'{number}.png', 40, 30)
    write_json(tmp_path / 'a.json', content)
    data = prepare(read_data(tmp_path), split=False)
    check_left(data)
    assert [box['iscrowd'] for box in data.splits['']['annotations']] == [0, 1, 0]
    assert data.said[-1].endswith('left out: 1 marked as ignore, 1 outlines of fewer than three points')


def test_a_box_of_zeros_is_computed_from_its_outline(tmp_path: Path) -> None:
    content = coco('0.png')
    content['annotations'][0].update(bbox=[0, 0, 0, 0], segmentation=[[3, 4, 13, 4, 13, 24]])
    write_image(tmp_path / '0.png', 40, 30)
    write_json(tmp_path / 'a.json', content)
    assert boxes_of(read_data(tmp_path))['0.png'] == [[3, 4, 10, 20]]


def test_classes_that_differ_in_blanks_are_said(tmp_path: Path) -> None:
    content: dict[str, Any] = coco('0.png', '1.png')
    content['categories'] = [{'id': 1, 'name': 'car'}, {'id': 2, 'name': 'car '}]
    content['annotations'][1]['category_id'] = 2
    for number in range(2):
        write_image(tmp_path / f'{number}.png', 40, 30)
    write_json(tmp_path / 'a.json', content)
    said = prepare(read_data(tmp_path)).said
    assert any('differ only in blanks or the form of accents are kept separate: car, car ' in line for line in said)


def test_a_voc_split_without_boxes_is_skipped(tmp_path: Path) -> None:
    box = '<object><name>a</name><bndbox><xmin>2</xmin><ymin>2</ymin><xmax>9</xmax><ymax>9</ymax></bndbox></object>'
    for split in ('train', 'test'):
        write_image(tmp_path / split / f'{split}.png', 40, 30)
        write_text(tmp_path / split / f'{split}.xml', f'<annotation><filename>{split}.png</filename>'
                   f'{box if split == "train" else ""}</annotation>')
    data = read_data(tmp_path)
    assert list(data.splits) == ['train'] and 'the test split has no boxes and is skipped' in data.notes


def scans(root: Path, names: list[str]) -> RawData:
    """Uncompressed scans, which are white at the top and at the bottom, and differ in the middle."""
    for number, name in enumerate(names):
        pixels = np.full((400, 640), 255, np.uint8)
        pixels[190:210] = number
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(root / name)
    content = coco(*names)
    for image in content['images']:
        image.update(width=640, height=400)
    write_json(root / 'a.json', content)
    return read_data(root)


def stored(root: Path, names: list[str]) -> list[tuple[str, str]]:
    return [(line[:16], line[17:]) for line in held_out_lines(root, names)]


def test_held_out_images_with_equal_margins(tmp_path: Path) -> None:
    names = [f'{number}.bmp' for number in range(4)]
    held_out = stored(tmp_path, names[:2]) if scans(tmp_path, names) else []
    assert len({digest for digest, _ in held_out}) == 1
    assert find_held_out(read_data(tmp_path), held_out) == {'0.bmp', '1.bmp'}
    renamed = scans(tmp_path / 'renamed', [f'new{name}' for name in names])
    with pytest.raises(UserError, match='give the images the names that they had in training'):
        find_held_out(renamed, held_out)


def test_copies_of_a_held_out_image_are_held_out(tmp_path: Path) -> None:
    for name in ('0.bmp', 'b.bmp', 'c.bmp'):
        write_image(tmp_path / name, 40, 30)
    held_out = [(digest, 'elsewhere.bmp') for digest, _ in stored(tmp_path, ['0.bmp'])]
    write_json(tmp_path / 'a.json', coco('0.bmp', 'b.bmp', 'c.bmp'))
    assert find_held_out(read_data(tmp_path), held_out) == {'0.bmp', 'b.bmp', 'c.bmp'}


def growing(root: Path, number: int) -> RawData:
    names = [f'{index}.png' for index in range(number)]
    for index, name in enumerate(names):
        write_image(root / name, 40, 30 + index)
    content = coco(*names)
    for index, image in enumerate(content['images']):
        image['height'] = 30 + index
    write_json(root / 'a.json', content)
    return read_data(root)


@pytest.mark.parametrize(('changed', 'sentence'), [
    (1, '1 more that training held out are not here, or were changed'),
    (2, 'no image has the content of one that training held out, but some have their names')])
def test_held_out_images_that_were_saved_anew_are_said(tmp_path: Path, changed: int, sentence: str) -> None:
    growing(tmp_path, 3)
    names = ['0.png', '1.png']
    held_out: list[HeldOut] = [stored(tmp_path, names)]
    for name in names[:changed]:
        Image.open(tmp_path / name).convert('RGBA').save(tmp_path / name)
    raw = read_data(tmp_path)
    data = prepare(raw, split=False)
    _hold_out(data, raw, held_out)
    assert data.said[-1].startswith(sentence)
    assert len(next(iter(data.splits.values()))['images']) == (1 if changed == 1 else 3)


def test_held_out_images_stay_held_out_when_the_data_grows(tmp_path: Path) -> None:
    """Otherwise the weights of the earlier training would be tested on images that they were trained on."""
    raw = growing(tmp_path / 'data', 20)
    before = prepare(raw).held_out
    work = tmp_path / 'work'
    write_text(work / 'data/held_out.txt', '\n'.join(held_out_lines(raw.root, before)) + '\n')
    raw = growing(tmp_path / 'data', 21)
    for cfg, held_out in ((Config({'work_dir': str(work), 'resume': True}), before),
                          (Config({'work_dir': str(work)}), prepare(raw).held_out)):
        data = prepare(raw, keep_out=find_held_out(raw, _held_out_before(cfg)))
        assert data.held_out == held_out
    assert before != prepare(raw).held_out
    assert 'no validation split: 4 of the 21 images are held out for it as before' in prepare(raw, keep_out=before).said


def test_too_few_known_images_are_no_validation_split(tmp_path: Path) -> None:
    raw = growing(tmp_path, 40)
    assert len(prepare(raw, keep_out=['3.png']).held_out) == 8
    assert prepare(raw, keep_out=['3.png', '4.png', 'gone.png']).held_out == ['3.png', '4.png']
