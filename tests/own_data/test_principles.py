"""What a file says decides, then the structure of folders; ties and leftovers are told; own outputs are never input."""
from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from mmengine.config import Config
from PIL import Image

from sparse_rcnn_mm.checkpoints import Metadata
from sparse_rcnn_mm.datasets import CocoDataset
from sparse_rcnn_mm.datasets.scan import scan
from sparse_rcnn_mm.errors import UserError
from sparse_rcnn_mm.own_data.config import set_test_data, set_training_data
from sparse_rcnn_mm.own_data.forms import FORMS, form_table
from sparse_rcnn_mm.own_data.preparing import check_left, dropped_as, prepare
from sparse_rcnn_mm.own_data.reading import read_data
from sparse_rcnn_mm.own_data.text import decode
from sparse_rcnn_mm.own_outputs import INFO, MARK, mark
from tests.kit import ROOT
from tests.kit.data_sets import (
    like_darknet,
    like_lvis,
    like_open_images,
    like_ultralytics,
    like_vocdevkit,
    one_image_folder,
    write_image,
    write_json,
    write_squares,
)


def names_of(root: Path, split: str = 'train') -> list[str]:
    return [image['file_name'] for image in read_data(root).splits[split].coco['images']]


def test_the_table_of_forms_in_the_documentation() -> None:
    assert form_table() in (ROOT / 'docs/own_data.md').read_text()
    assert [form.name for form in FORMS] == ['COCO JSON', 'LVIS JSON', 'Pascal VOC XML', 'YOLO txt', 'Open Images CSV',
                                             'CrowdHuman odgt']


def test_lvis_and_open_images_are_recognized(tmp_path: Path) -> None:
    for write, form in ((like_lvis, 'LVIS JSON'), (like_open_images, 'Open Images CSV')):
        write(tmp_path / form)
        assert read_data(tmp_path / form).form == form


def test_groups_of_open_images_are_crowds(tmp_path: Path) -> None:
    like_open_images(tmp_path)
    path = tmp_path / 'train-annotations-bbox.csv'
    path.write_text(path.read_text().replace('0,0,0\n', '0,0,1\n', 1))
    data = prepare(read_data(tmp_path))
    check_left(data)
    assert 'train: 3 images, 4 boxes to use: dog 2, ant 1, cat 1; left out: 1 crowd or difficult' in data.said


def test_two_forms_in_a_folder_are_a_tie(tmp_path: Path) -> None:
    one_image_folder(tmp_path)
    (tmp_path / 'a.xml').write_text('<annotation><filename>a.png</filename></annotation>')
    with pytest.raises(UserError, match=r'holds COCO JSON \(train\.json\) and Pascal VOC XML \(a\.xml\)'):
        read_data(tmp_path)
    assert sorted(read_data(tmp_path / 'train.json').splits) == ['train']


@pytest.mark.parametrize('folder', ['masks', 'other'])
def test_images_win_over_files_of_the_same_names_and_it_is_said(folder: str, tmp_path: Path) -> None:
    """And where an image is missing, the mask is no substitute."""
    one_image_folder(tmp_path)
    shutil.copytree(tmp_path / 'images', tmp_path / folder)
    raw = read_data(tmp_path)
    assert f'using the images in images, not those with the same names in {folder}' in raw.notes
    assert names_of(tmp_path) == [f'images/{stem}.png' for stem in 'abcd']
    (tmp_path / 'images/b.png').unlink()
    assert names_of(tmp_path) == [f'images/{stem}.png' for stem in 'abcd']


def test_a_tie_between_folders_names_both(tmp_path: Path) -> None:
    one_image_folder(tmp_path)
    shutil.copytree(tmp_path / 'images', tmp_path / 'left')
    (tmp_path / 'images').rename(tmp_path / 'right')
    with pytest.raises(UserError, match=r'train\.json in .* names a\.png, which could be left/a\.png or right/a\.png'):
        read_data(tmp_path)


def test_two_images_of_one_label_file_are_a_tie(tmp_path: Path) -> None:
    like_ultralytics(tmp_path)
    Image.open(tmp_path / 'images/train/a.png').save(tmp_path / 'images/train/a.jpg')
    with pytest.raises(UserError, match=r'a\.txt .* could belong to images/train/a\.jpg or to images/train/a\.png'):
        read_data(tmp_path)


def test_two_xml_files_of_one_image_are_a_tie(tmp_path: Path) -> None:
    like_vocdevkit(tmp_path)
    folder = tmp_path / 'VOC2012/Annotations'
    (folder / 'b.xml').write_text((folder / 'a.xml').read_text())
    with pytest.raises(UserError, match=r'a\.xml and .*b\.xml in .* both name the image VOC2012/JPEGImages/a\.png'):
        read_data(tmp_path)


def test_an_image_in_two_lists_is_a_tie(tmp_path: Path) -> None:
    like_vocdevkit(tmp_path)
    path = tmp_path / 'VOC2012/ImageSets/Main/val.txt'
    path.write_text(path.read_text() + 'a\n')
    with pytest.raises(UserError, match=r'train\.txt and .*val\.txt in .* both name a: an image can be in one'):
        read_data(tmp_path)


def test_images_of_no_split_beside_others_are_left_out_and_named(tmp_path: Path) -> None:
    like_darknet(tmp_path)
    write_image(tmp_path / 'more/x.png', 20, 20)
    (tmp_path / 'more/x.txt').write_text('0 .5 .5 .2 .2\n')
    raw = read_data(tmp_path)
    assert sorted(raw.splits) == ['train', 'val']
    assert 'not used: 1 image (no list and no folder says which split they are in): more/x.png' in raw.notes


def test_json_files_that_are_not_used_are_named(tmp_path: Path) -> None:
    one_image_folder(tmp_path)
    shutil.copy(tmp_path / 'val.json', tmp_path / 'holdout.json')
    write_json(tmp_path / 'notes.json', {'info': 1})
    notes = read_data(tmp_path).notes
    assert 'not used: 1 JSON file (its name does not contain a split: train, val or test): holdout.json' in notes
    assert 'not used: 1 JSON file (another format): notes.json' in notes


def test_two_categories_of_one_name(tmp_path: Path) -> None:
    """An error where both have boxes; Roboflow's super-category, which has none, may have a name that is taken."""
    one_image_folder(tmp_path)
    path = tmp_path / 'train.json'
    content = json.loads(path.read_text())
    content['categories'].append({'id': 50, 'name': 'dog'})
    write_json(path, content)
    assert prepare(read_data(tmp_path)).classes == {'cat': 3, 'dog': 4, 'ant': 9}
    content['annotations'][0]['category_id'] = 50
    write_json(path, content)
    with pytest.raises(UserError, match=r"train\.json in .* has 2 categories called 'dog' \(ids 4, 50\)"):
        read_data(tmp_path)


# own outputs

def run_folder(kind: str, folder: Path) -> None:
    """An output of our tools with pictures and JSON files of the same names as the data's."""
    folder.mkdir(parents=True)
    for name in ('a', 'b'):
        write_image(folder / f'{name}.png', 101, 67)
    write_json(folder / 'detections.json', {'images': [], 'annotations': [], 'categories': []})
    if kind == 'marked':
        mark(folder)
    else:
        (folder / 'detections.csv').write_text('image\n')


@pytest.mark.parametrize('kind', ['marked', 'of version 0.1.0'])
@pytest.mark.parametrize('place', ['detections', 'work_dirs/x/stages', 'renamed', 'link'])
def test_own_outputs_are_never_input(kind: str, place: str, tmp_path: Path) -> None:
    one_image_folder(tmp_path / 'mine')
    expected = read_data(tmp_path / 'mine').splits
    run_folder(kind, tmp_path / 'elsewhere' if place == 'link' else tmp_path / 'mine' / place)
    if place == 'link':
        (tmp_path / 'mine/link').symlink_to(tmp_path / 'elsewhere')
    raw = read_data(tmp_path / 'mine')
    assert raw.splits == expected
    assert f'not read: {place} (written by sparse_rcnn_mm)' in raw.notes
    with pytest.raises(UserError, match='was written by sparse_rcnn_mm'):
        read_data(tmp_path / 'mine' / place)


def test_own_json_beside_the_data_is_never_input(tmp_path: Path) -> None:
    one_image_folder(tmp_path)
    content = json.loads((tmp_path / 'train.json').read_text())
    write_json(tmp_path / 'test.json', {'info': INFO, **content})
    raw = read_data(tmp_path)
    assert sorted(raw.splits) == ['train', 'val']
    assert 'not read: test.json (written by sparse_rcnn_mm)' in raw.notes


# paths

def test_folders_reached_in_other_ways_are_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`../mine`, a link, `~`, a path that goes up through a link."""
    one_image_folder(tmp_path / "it's mine")
    expected = read_data(tmp_path / "it's mine").splits
    (tmp_path / 'beside').mkdir()
    (tmp_path / 'link').symlink_to(tmp_path / "it's mine")
    monkeypatch.chdir(tmp_path / 'beside')
    monkeypatch.setenv('HOME', str(tmp_path))
    for path in ("../it's mine", '../link', "~/it's mine", '../link/.', "../link/../it's mine/images/.."):
        assert read_data(path).splits == expected


@pytest.mark.timeout(60)
def test_loops_pipes_and_dangling_links_do_not_hang(tmp_path: Path) -> None:
    one_image_folder(tmp_path)
    expected = read_data(tmp_path).splits
    for folder in ('p', 'q'):
        (tmp_path / folder).mkdir()
        for number in range(3):
            (tmp_path / folder / f'up{number}').symlink_to(tmp_path)
            (tmp_path / folder / f'across{number}').symlink_to(tmp_path / ('q' if folder == 'p' else 'p'))
    os.mkfifo(tmp_path / 'pipe.json')
    (tmp_path / 'gone.json').symlink_to(tmp_path / 'nowhere')
    (tmp_path / 'self.json').symlink_to(tmp_path / 'self.json')
    raw = read_data(tmp_path)
    assert raw.splits == expected
    said = '\n'.join(raw.notes)
    assert 'not read: pipe.json (not a regular file)' in said and 'not read: gone.json (broken link)' in said
    with pytest.raises(UserError):
        read_data(tmp_path / 'pipe.json')


def test_images_are_found_through_links(tmp_path: Path) -> None:
    one_image_folder(tmp_path / 'mine')
    (tmp_path / 'mine/images').rename(tmp_path / 'photos')
    (tmp_path / 'mine/images').symlink_to(tmp_path / 'photos')
    assert names_of(tmp_path / 'mine') == [f'images/{stem}.png' for stem in 'abcd']


@pytest.mark.parametrize('prefix', ['/home/someone/data/images/', 'C:\\data\\images\\', 'D:/x/', './', 'file://images/'])
def test_names_of_other_machines(prefix: str, tmp_path: Path) -> None:
    one_image_folder(tmp_path)
    content = json.loads((tmp_path / 'train.json').read_text())
    for image in content['images']:
        image['file_name'] = prefix + image['file_name']
    write_json(tmp_path / 'train.json', content)
    assert names_of(tmp_path) == [f'images/{stem}.png' for stem in 'abcd']


@pytest.mark.parametrize('entry', ['/', '..', '../..'])
def test_a_split_that_is_the_whole_disk_is_refused(entry: str, tmp_path: Path) -> None:
    like_ultralytics(tmp_path / 'sub/mine')
    path = tmp_path / 'sub/mine/data.yaml'
    path.write_text(path.read_text().replace('path: /elsewhere/data\n', '').replace('images/train', entry))
    with pytest.raises(UserError, match='a folder that contains the whole data set and more'):
        read_data(tmp_path / 'sub/mine')
    with pytest.raises(UserError, match='is the root of the disk'):
        scan('/')


# encodings

@pytest.mark.parametrize(('text', 'encoding', 'guess'), [
    ('red\nblue\n', 'utf-8-sig', ''), ('red\n蓝\n', 'utf-16', ''), ('红\n蓝\n', 'gbk', 'GBK'),
    ('höhle\ncafé\n', 'latin-1', 'Latin-1'), ('<a>蓝</a>', 'utf-16-le', ''),
    ('<?xml version="1.0" encoding="gb2312"?><a>镕</a>', 'gbk', ''), ('кот\n', 'utf-8', '')])
def test_encodings(text: str, encoding: str, guess: str) -> None:
    found, said = decode(text.encode(encoding), Path('x'))
    assert (found.lstrip('\ufeff'), said) == (text, guess)


@pytest.mark.parametrize(('encoding', 'mark'), [
    ('utf-8', b'\xef\xbb\xbf'), ('utf-16-le', b'\xff\xfe'), ('utf-16-be', b'\xfe\xff'),
    ('utf-32-le', b'\xff\xfe\0\0'), ('utf-32-be', b'\0\0\xfe\xff')])
def test_every_mark_of_an_encoding(encoding: str, mark: bytes) -> None:
    """Without the mark, the same text with an ASCII letter first could not be told."""
    assert decode(mark + 'blau\n蓝\n'.encode(encoding), Path('x')) == ('blau\n蓝\n', '')


@pytest.mark.parametrize('data', ['красный\n'.encode('cp1251'), b'\x81\x82\x83\n', b'\xba\xecab\n',
                                  'créée\n'.encode('latin-1')])
def test_uncertain_encodings_are_a_sentence(data: bytes) -> None:
    with pytest.raises(UserError, match='x is not in UTF-8, and its encoding is ambiguous: save it in UTF-8'):
        decode(data, Path('x'))


# nothing left

def test_nothing_left_to_train_on_is_a_sentence(tmp_path: Path) -> None:
    one_image_folder(tmp_path)
    content = json.loads((tmp_path / 'train.json').read_text())
    for box in content['annotations']:
        box['iscrowd'] = 1
    write_json(tmp_path / 'train.json', content)
    with pytest.raises(UserError, match=r'no box of the train split .* all are left out \(5 crowd or difficult\)'):
        check_left(prepare(read_data(tmp_path)))


def test_what_is_counted_is_what_the_data_set_keeps(tmp_path: Path) -> None:
    """`dropped_as` against `CocoDataset`, on annotations of every kind."""
    outlines: list[object] = [None, [], [[1, 1, 2, 2]], [[1, 1, 5, 1, 5, 5]], [[1, 1], [1, 1, 5, 1, 5, 5]], [[1] * 7],
                              {'counts': [0, 64], 'size': [8, 8]}, [5]]
    random = np.random.RandomState(0)
    write_image(tmp_path / 'a.png', 8, 8)
    boxes = [{'id': number + 1, 'image_id': 1, 'category_id': 1, 'bbox': [1, 1, 4, 4], 'area': 16,
              'iscrowd': int(random.rand() < 0.2), 'ignore': int(random.rand() < 0.2),
              'segmentation': outlines[random.randint(len(outlines))]} for number in range(200)]
    write_json(tmp_path / 'a.json', {'images': [{'id': 1, 'file_name': 'a.png', 'width': 8, 'height': 8}],
                                     'annotations': boxes, 'categories': [{'id': 1, 'name': 'x'}]})
    (kept,) = CocoDataset(ann_file=str(tmp_path / 'a.json'), data_prefix={'img': str(tmp_path)}, pipeline=[],
                          metainfo={'classes': ('x',)})
    assert 0 < len(kept['instances']) == sum(not dropped_as(box) for box in boxes) < 200


# the same validation images

def config(work_dir: Path) -> Config:
    cfg = Config.fromfile(ROOT / 'configs/sparse_rcnn_r50_finetune.py')
    cfg.work_dir = str(work_dir)
    return cfg


def images_of_the_test(folder: Path, metadata: Metadata, work_dir: Path) -> set[bytes]:
    cfg = config(work_dir)
    set_test_data(cfg, str(folder), metadata)
    (path,) = (work_dir / 'test_data').glob('*.json')
    return {Path(cfg.test_dataloader.dataset.data_prefix.img, image['file_name']).read_bytes()
            for image in json.loads(path.read_text())['images']}


@pytest.mark.parametrize('how', ['same', 'moved', 'linked', 'files renamed', 'other'])
def test_a_model_is_tested_on_the_images_that_training_held_out(how: str, tmp_path: Path) -> None:
    data = write_squares(tmp_path / 'mine', ['cat', 'dog'], ('train',))
    cfg = config(tmp_path / 'work')
    set_training_data(cfg, str(data))
    dataset = CocoDataset(ann_file=cfg.train_dataloader.dataset.ann_file, pipeline=[],
                          data_prefix={'img': str(data)}, metainfo=cfg.train_dataloader.dataset.metainfo)
    metadata = Metadata.of({'meta': {'dataset_meta': dataset.metainfo}}, 'x.pth')
    assert len(metadata.held_out) == 2
    val = json.loads((tmp_path / 'work/data/val.json').read_text())
    held_out = {(data / image['file_name']).read_bytes() for image in val['images']}
    folder = tmp_path / 'other'
    if how == 'linked':
        folder.symlink_to(data)
    elif how == 'other':
        write_squares(folder, ['dog', 'cat'], ('train',))
        for number, path in enumerate(sorted((folder / 'train').iterdir())):
            Image.new('RGB', (64, 64), (number, 0, 0)).save(path)
    elif how != 'same':
        data.rename(folder)
    if how == 'files renamed':
        content = json.loads((folder / 'train.json').read_text())
        for image in content['images']:
            (folder / 'train' / image['file_name']).rename(folder / 'train' / f'x{image["file_name"]}')
            image['file_name'] = f'x{image["file_name"]}'
        write_json(folder / 'train.json', content)
    tested = images_of_the_test(data if how == 'same' else folder, metadata, tmp_path / 'tested')
    assert len(tested) == 8 if how == 'other' else tested == held_out


def test_malformed_held_out_images_are_refused() -> None:
    for lines in (5, ['x'], [b'0123456789abcdef a.png'], ['0123456789abcdef']):
        with pytest.raises(UserError, match=r'the held-out images inside x\.pth are not a list'):
            Metadata.of({'meta': {'dataset_meta': {'classes': ('a',), 'held_out': lines}}}, 'x.pth')


def test_the_work_dir_is_not_the_folder_of_the_data(tmp_path: Path) -> None:
    one_image_folder(tmp_path)
    with pytest.raises(UserError, match='is also the data folder: choose another one with --work-dir'):
        set_training_data(config(tmp_path), str(tmp_path))
    assert not (tmp_path / MARK).exists()
