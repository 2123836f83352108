"""Data sets as users have them (tests/data/cases.zip): what training gets of each, or the sentence it ends in."""
from __future__ import annotations

import json
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from mmengine.config import Config

from sparse_rcnn_mm.errors import UserError
from sparse_rcnn_mm.own_data.config import set_training_data
from tests.kit import ROOT

# number of a picture -> its red and its blue box, as x, y, width, height.
BOXES = {
    0: ([26, 2, 23, 16], [31, 12, 14, 18]), 1: ([51, 24, 12, 19], [7, 31, 11, 14]),
    2: ([5, 5, 23, 10], [47, 19, 15, 12]),
    3: ([34, 4, 13, 19], [30, 20, 15, 19]),
    4: ([6, 25, 13, 14], [5, 4, 17, 12]), 5: ([22, 33, 19, 14], [49, 30, 10, 17]),
    6: ([5, 15, 22, 19], [2, 0, 22, 14]), 7: ([25, 3, 15, 12], [6, 11, 11, 18]), 8: ([24, 8, 13, 15], [5, 8, 13, 10]),
    20: ([9, 8, 24, 20], [6, 27, 20, 20]),
}
Split = dict[str, int]  # file name -> number of the picture


@dataclass
class Case:
    """What comes out.

    Attributes:
        splits: by name; of a case without a validation split, 'all' is what both splits hold together.
        classes: of the first and the second box.
        said: regular parts of what is said.
    """
    splits: dict[str, Split]
    classes: tuple[str, str] = ('red', 'blue')
    said: Sequence[str] = ()


def files(pattern: str, numbers: Sequence[int], first: int = 0) -> Split:
    return {pattern.format(number - first): number for number in numbers}


def everything(pattern: str, count: int, classes: tuple[str, str] = ('red', 'blue'), said: Sequence[str] = ()) -> Case:
    return Case({'all': files(pattern, range(count))}, classes, said)


def both(train: Split, val: Split, said: Sequence[str] = ()) -> Case:
    return Case({'train': train, 'val': val}, said=said)


ULTRALYTICS = both(files('images/train/{}.jpg', range(6)), files('images/val/{}.jpg', (6, 7)))
COCO = both(files('images/{}.jpg', range(6)), files('images/{}.jpg', (6, 7, 8)))
ROBOFLOW = (files('train/images/{}.jpg', range(6)), files('valid/images/{}.jpg', (6, 7)))
WORDS = {f'images/{name}.jpg': number for number, name in enumerate(
    ('bus_1', 'bus_2', 'bus_3', 'bus_4', 'train_1', 'train_2', 'train_3', 'car_1'))}
QUIRKS = {'images/0.png': 0, **files('images/{}.jpg', (1, 2, 4, 5))}
UNUSED = 'not used: 4 images (no annotation names them): '

CASES = {
    'bom_classes': everything('{}.jpg', 6),
    'bom_names_only': everything('{}.jpg', 4),
    'capital_folders': everything('Images/{}.JPG', 4),
    'chinese_names': everything('images/{}.jpg', 4, ('翘头剪', '止血钳')),
    'cvat_ultralytics': everything('images/train/{}.jpg', 6, said=[
        '6 images found by the end of the path, the first: data/images/train/0.jpg is images/train/0.jpg']),
    'double_ext': everything('{}.jpg.jpg', 4),
    'eval_json': COCO,
    'float_ids': everything('images/{}.jpg', 4),
    'gbk_classes': everything('{}.jpg', 6, ('红', '蓝'), ['classes.txt is not in UTF-8 and is read as GBK']),
    'gbk_yaml': Case(dict.fromkeys(('train', 'val'), files('images/{}.jpg', range(6))), ('红', '蓝'), [
        'data.yaml is not in UTF-8 and is read as GBK, as are others like it',
        '6 of the 6 validation images are also training images']),
    'inside_folder': everything('images/{}.jpg', 6, ('blue', 'red')),
    'instances_train_and_val': COCO,
    'jfif': both({f'images/train/{n}.{"jfif" if n in (1, 3) else "jpg"}': n for n in range(6)},
                 {'images/val/6.jpg': 6, 'images/val/7.jfif': 7}),
    'label_studio_windows': everything('images/9{}fbb0c7-a.jpg', 6),
    'labelimg_orders': both(files('train/{}.jpg', range(6)), files('val/{}.jpg', (6, 7, 8), first=6)),
    'labels_beside': Case({'all': {**files('one/{}.jpg', range(3)), **files('two/images/{}.jpg', range(3, 6))}}),
    'minival': COCO,
    'no_bbox': everything('images/{}.jpg', 4),
    'odd_file_names': Case({'all': {f'images/{name}.jpg': number for number, name in enumerate(
        ('a b', 'ü#1', '50%25', 'x[1]', "it's"))}}),
    'roboflow_api': Case({'train': ROBOFLOW[0], 'val': ROBOFLOW[1], 'test': {'test/images/20.jpg': 20}}, said=[
        'roboflow_api/train/images of data.yaml is read as train/images']),
    'roboflow_no_test': both(*ROBOFLOW, said=['data.yaml names ../test/images for the test split, which does not']),
    'sixteen_bit': Case({'all': {f'images/{n}.{"png" if n % 2 else "tif"}': n for n in range(6)}}),
    'split_words_voc': Case({'all': {**WORDS, 'images/train_1.jpg': 4, 'images/car_1.jpg': 7}}),
    'split_words_yolo': Case({'all': WORDS}),
    'string_ids': everything('images/{}.jpg', 4),
    'val_empty': Case({'all': files('train/{}.jpg', range(6))}, said=[
        'val/_annotations.coco.json has no boxes and is skipped',
        'not used: 3 images (its split has no boxes): val/6.jpg, val/7.jpg, val/8.jpg']),
    'voc_capital_root': everything('{}.jpg', 4),
    'voc_encodings': everything('{}.jpg', 7),
    'voc_gbk': everything('{}.jpg', 4, ('红', '蓝')),
    'voc_masks': everything('images/{}.jpg', 4, said=[UNUSED + 'Masks/0.png']),
    'voc_quirks_ok': Case({'all': QUIRKS}, said=['differ only in case are kept separate: Red, red']),
    'voc_same_stem': everything('images/{}.png', 4, said=[UNUSED + 'images/0.jpg']),
    'voc_sets_dots': both({f'JPEGImages/cam1.202{n + 1}.jpg': n for n in range(3)}, {'JPEGImages/cam2.2021.jpg': 3}),
    'voc_sets_some': both({f'JPEGImages/{name}.jpg': n for n, name in enumerate(
        ('plain1', 'plain2', 'site (1)', 'plain3', 'cam.v2'))}, {'JPEGImages/plain4.jpg': 5}),
    'voc_sets_spaces': both({f'JPEGImages/site A {n + 1}.jpg': n for n in range(3)}, {'JPEGImages/site B 1.jpg': 3}),
    'voc_sets_subfolders': both(files('JPEGImages/sub/{}.jpg', range(3)), files('JPEGImages/sub/{}.jpg', [3])),
    'xanylabeling_windows': everything('{}.jpg', 6, said=[
        r'3 images found by the end of the path, the first: ..\label\3.jpg is 3.jpg']),
    'yaml_words': Case(dict.fromkeys(('train', 'val'), files('images/{}.jpg', range(4))), ('no', '010')),
    'yolo_other_machine': both(files('images/{}.jpg', range(4)), files('images/{}.jpg', (4, 5)), said=[
        '6 images found by the end of the path, the first: /home/someone/data/images/0.jpg is images/0.jpg']),
    'yolo_pose2': ULTRALYTICS,
    'yolo_pose2xy': ULTRALYTICS,
}

SENTENCES = {
    'coco_normalised': r'the boxes of train\.json in .* are between 0 and 1, relative to the image size: .*; '
                       r'the first is \[0\.40625, .*\(annotation 1\)',
    'coco_xyxy': r'the boxes of train\.json in .* look like x1, y1, x2, y2, .* 10 of 12 boxes reach beyond',
    'xyxy_d2go': r'the boxes of train\.json in .* look like x1, y1, x2, y2, .* 5 of 5 boxes reach beyond',
    'cvat_for_images': r"annotations\.xml in .* is CVAT's own XML, which is not supported: export the data",
    'duplicate_ids': r'8 errors in the data in .*, the first: annotations\.json: annotation 1: has the id of an',
    'exif_label_studio': r'1 error .*images/0\.jpg \(image 1 of result\.json\): is 64 x 48 pixels, but annotated',
    'geti_same_name': r"annotations\.json in .* has 3 images called 'frame000\.png' \(ids 1, 3, 5\)",
    'same_names_two_folders': r"annotations/instances_default\.json in .* has 2 images called '0\.jpg' \(ids 1, 2\)",
    'voc_quirks': r'1 error .*xml/3\.xml: object 1: has no name or no valid bndbox',
    'yolo_pixels': r'are in pixels, the first: labels/train/0\.txt:1 is 0 37\.5 10\.0 23 16; YOLO needs them divided',
    'infer_in': r'holds \d+ images, but no annotations in a supported format: COCO JSON, .* or CrowdHuman odgt',
    'infer_in_linked': 'holds 2 images, but no annotations',
}
OTHERS = {'own_pictures'}  # other pictures and boxes; tested in test_own_outputs.py


@pytest.fixture(scope='session')
def cases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp('cases')
    with zipfile.ZipFile(ROOT / 'tests/data/cases.zip') as archive:
        archive.extractall(folder)
    return folder


def trained_on(folder: Path, work_dir: Path) -> dict[str, dict[str, list[tuple[str, list[float]]]]]:
    """Split -> file name -> (class, box) as training gets them."""
    cfg = Config.fromfile(ROOT / 'configs/sparse_rcnn_r50_finetune.py')
    cfg.work_dir = str(work_dir)
    set_training_data(cfg, str(folder))
    splits = {}
    for path in (work_dir / 'data').glob('*.json'):
        coco = json.loads(path.read_text())
        classes = {category['id']: category['name'] for category in coco['categories']}
        names = {image['id']: image['file_name'] for image in coco['images']}
        splits[path.stem] = {name: [(classes[box['category_id']], box['bbox']) for box in coco['annotations']
                                    if names[box['image_id']] == name] for name in names.values()}
    return splits


def test_every_case_is_here(cases: Path) -> None:
    assert {path.name for path in cases.iterdir()} == {*CASES, *SENTENCES, *OTHERS}


@pytest.mark.parametrize('name', CASES)
def test_what_training_gets(name: str, cases: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    case = CASES[name]
    found = trained_on(cases / name, tmp_path)
    if 'all' in case.splits:
        assert not set(found['train']) & set(found['val'])
        found = {'all': {**found['train'], **found['val']}}
    assert {split: sorted(images) for split, images in found.items()} == {
        split: sorted(images) for split, images in case.splits.items()}
    for split, images in case.splits.items():
        for file_name, number in images.items():
            boxes = found[split][file_name]
            assert [box for _, box in boxes] == [pytest.approx(box, abs=0.51) for box in BOXES[number]]
            assert tuple(label.lower() for label, _ in boxes) == case.classes
    said = capsys.readouterr().out
    for part in case.said:
        assert part in said


@pytest.mark.parametrize('name', SENTENCES)
def test_what_training_refuses(name: str, cases: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=SENTENCES[name]) as caught:
        trained_on(cases / name, tmp_path)
    assert '\n' not in str(caught.value)
    assert not (tmp_path / 'data').exists()
