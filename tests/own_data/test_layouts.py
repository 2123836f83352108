"""One data set in ten layouts of five forms gives the same boxes; splits, ids, classes; what is said of bad ones."""
from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from sparse_rcnn_mm.datasets import CocoDataset
from sparse_rcnn_mm.errors import UserError
from sparse_rcnn_mm.own_data.preparing import PreparedData, prepare
from sparse_rcnn_mm.own_data.reading import read_data
from sparse_rcnn_mm.registry import TRANSFORMS
from tests.kit import data_sets
from tests.kit.data_sets import (
    FORMS,
    TRUTH,
    coco,
    like_open_images,
    like_open_images_v7,
    like_ultralytics,
    like_vocdevkit,
    one_image_folder,
    write_image,
    write_json,
)

# The training's, without what is drawn at random.
PIPELINE = [TRANSFORMS.build({'type': name, **more}) for name, more in (
    ('LoadRGBImage', {}), ('LoadAnnotations', {'with_bbox': True}), ('ClipBoxes', {}), ('PackDetInputs', {}))]


def boxes_of(data: PreparedData, split: str, out: Path) -> dict[str, list]:
    """What the training gets: file stem -> [(class, corners)], in the order of the file."""
    path = data.write(out)[split]
    dataset = CocoDataset(ann_file=path, data_prefix={'img': str(data.root)}, pipeline=[],
                          metainfo={'classes': tuple(data.classes)})
    assert all(Path(info['img_path']).is_file() for info in dataset)
    return {Path(info['img_path']).stem: [(dataset.metainfo['classes'][box['bbox_label']], box['bbox'])
                                          for box in info['instances']] for info in dataset}


@pytest.mark.parametrize('write', FORMS)
def test_every_layout_gives_the_same_boxes(write: Callable[[Path], None], tmp_path: Path) -> None:
    write(tmp_path / 'mine')
    data = prepare(read_data(tmp_path / 'mine'))
    assert sorted(data.splits) == ['train', 'val']
    for split in data.splits:
        found = boxes_of(data, split, tmp_path / 'out')
        expected = {stem: boxes for stem, (part, _, _, boxes) in TRUTH.items() if part == split
                    and (boxes or write not in (like_open_images, like_open_images_v7))}  # no rows without boxes
        assert sorted(found) == sorted(expected)
        for stem, boxes in expected.items():
            assert [name for name, _ in found[stem]] == [name for name, *_ in boxes]
            for (_, corners), (_, *truth) in zip(found[stem], boxes, strict=True):
                assert corners == pytest.approx(truth, abs=1e-3)


def photographs(count: int = 20) -> dict:
    """Sizes of cameras, up to seven fractional boxes an image, small ones and ones that reach the edge; in no order."""
    random = np.random.RandomState(5)
    truth = {}
    for number in random.permutation(count):
        width, height = (int(side) for side in random.randint(100, 900, 2))
        boxes = []
        for _ in range(random.randint(8)):
            x1, y1 = random.uniform(0, 0.9, 2) * (width, height) * (random.rand(2) > 0.1)
            x2, y2 = np.minimum(np.array([x1 + 2, y1 + 2]) + random.gamma(1, 0.2, 2) * (width, height), (width, height))
            boxes.append((str(random.choice(['cat', 'dog', 'ant'])), float(x1), float(y1), float(x2), float(y2)))
        truth[f'photo-{number}'] = ('val' if number % 4 == 0 else 'train', width, height, boxes)
    return truth


def reaching_the_model(root: Path, out: Path) -> dict[str, list]:
    """Of both splits in the order of training without shuffling: (file name, class names, boxes)."""
    data = prepare(read_data(root))
    reached: dict[str, list] = {}
    for split, path in data.write(out).items():
        dataset = CocoDataset(ann_file=path, data_prefix={'img': str(data.root)}, pipeline=PIPELINE,
                              metainfo={'classes': tuple(data.classes)})
        samples = [item['data_samples'] for item in dataset]
        reached[split] = [(Path(sample.img_path).name,
                           [dataset.metainfo['classes'][label] for label in sample.gt_instances.labels],
                           sample.gt_instances.bboxes.tensor) for sample in samples]
    return reached


def test_coco_voc_and_yolo_give_the_model_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same images in the same order, so that a seed gives the same training, with the same boxes."""
    truth = photographs()
    monkeypatch.setattr(data_sets, 'TRUTH', truth)
    for write in (one_image_folder, like_vocdevkit, like_ultralytics):
        write(tmp_path / write.__name__)
        reached = reaching_the_model(tmp_path / write.__name__, tmp_path / 'out')
        for split in ('train', 'val'):
            expected = sorted(stem for stem in truth if truth[stem][0] == split)
            assert [name for name, *_ in reached[split]] == [f'{stem}.png' for stem in expected]
            for stem, (_, names, boxes) in zip(expected, reached[split], strict=True):
                assert names == [name for name, *_ in truth[stem][3]]
                expected_boxes = np.array([box for _, *box in truth[stem][3]]).reshape(-1, 4)
                assert boxes.numpy() == pytest.approx(expected_boxes, abs=1e-3)


@pytest.mark.parametrize(('write', 'classes'), [
    (FORMS[0], {'cat': 3, 'dog': 4, 'ant': 9}),
    (FORMS[1], {'cat': 0, 'dog': 17, 'ant': 90}),
    (FORMS[2], {'cat': 1, 'dog': 2, 'ant': 3}),  # without the super-category 0
    (FORMS[3], {'ant': 0, 'cat': 1, 'dog': 2}),
    (FORMS[5], {'cat': 0, 'dog': 1, 'ant': 3}),  # without the emu, of which there is no box
])
def test_ids_are_those_of_the_data(write: Callable[[Path], None], classes: dict[str, int], tmp_path: Path) -> None:
    write(tmp_path)
    data = prepare(read_data(tmp_path))
    assert data.classes == classes
    assert all(part['categories'] == [{'id': number, 'name': name} for name, number in classes.items()]
               for part in data.splits.values())


def test_annotation_ids_from_0_do_not_cost_ap(tmp_path: Path) -> None:
    """The COCO metric reads a match with annotation 0 as none: perfect detections then miss it."""
    FORMS[2](tmp_path / 'mine')
    prepared = prepare(read_data(tmp_path / 'mine')).write(tmp_path / 'out')['train']
    for path, expected in ((prepared, 1.0), (str(tmp_path / 'mine/train/_annotations.coco.json'), 0.8)):
        truth = COCO(path)
        found = truth.loadRes([{key: box[key] for key in ('image_id', 'category_id', 'bbox')} | {'score': 0.9}
                               for box in truth.dataset['annotations']])
        evaluation = COCOeval(truth, found, 'bbox')
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
        assert (evaluation.stats[0] == pytest.approx(1.0)) == (expected == 1.0)


def test_splits_may_number_the_same_classes_differently(tmp_path: Path) -> None:
    one_image_folder(tmp_path / 'mine')
    write_json(tmp_path / 'mine/val.json', coco('val', {'ant': 3, 'dog': 4, 'cat': 5}))
    data = prepare(read_data(tmp_path / 'mine'))
    assert data.classes == {'cat': 3, 'dog': 4, 'ant': 9}
    assert [name for boxes in boxes_of(data, 'val', tmp_path / 'out').values() for name, _ in boxes] == ['ant', 'cat']


def test_a_split_is_made_where_there_is_none(tmp_path: Path) -> None:
    """Every fifth image, by seed: the same ones again for the same data, whatever the order in the file."""
    images = [{'id': number, 'file_name': f'{number:03}.png', 'width': 8, 'height': 8} for number in range(20)]
    boxes = [{'id': number + 1, 'image_id': number, 'category_id': 1, 'bbox': [1, 1, 2, 3], 'area': 6, 'iscrowd': 0}
             for number in range(20)]
    for image in images:
        write_image(tmp_path / image['file_name'], 8, 8)
    chosen = []
    for order in (images, images[::-1]):
        write_json(tmp_path / 'labels.json',
                   {'images': order, 'annotations': boxes, 'categories': [{'id': 1, 'name': 'box'}]})
        data = prepare(read_data(tmp_path / 'labels.json'))
        assert 'no validation split: 4 of the 20 images are held out for it by seed 0' in data.said
        train, val = ({image['file_name'] for image in data.splits[name]['images']} for name in ('train', 'val'))
        assert (len(train), len(val), train & val) == (16, 4, set())
        assert {box['image_id'] for box in data.splits['val']['annotations']} == {int(name[:3]) for name in val}
        chosen.append(val)
    assert chosen[0] == chosen[1]
    assert [len(part['images']) for part in prepare(read_data(tmp_path), split=False).splits.values()] == [20]


def test_a_test_split_validates_where_there_is_no_other(tmp_path: Path) -> None:
    one_image_folder(tmp_path)
    (tmp_path / 'val.json').rename(tmp_path / 'test.json')
    data = prepare(read_data(tmp_path))
    assert 'no validation split: validating on the test split' in data.said
    assert data.splits['val'] == data.splits['test']


def test_classes_of_a_trained_model(tmp_path: Path) -> None:
    """Ids and order are those of the model; boxes of other classes are skipped."""
    one_image_folder(tmp_path / 'mine')
    data = prepare(read_data(tmp_path / 'mine'), {'emu': 5, 'dog': 2, 'cat': 1})
    assert data.classes == {'emu': 5, 'dog': 2, 'cat': 1}
    assert [box['category_id'] for box in data.splits['train']['annotations']] == [2, 1, 2, 2]
    assert 'boxes of classes that the model does not know are skipped: ant' in data.said
    with pytest.raises(UserError, match=r'boxes in .* are of the classes cat, dog, ant; the model knows only emu'):
        prepare(read_data(tmp_path / 'mine'), {'emu': 5})


def test_boxes_of_no_area_are_left_out(tmp_path: Path) -> None:
    one_image_folder(tmp_path)
    content = coco('train')
    content['annotations'][0]['bbox'][2] = 0
    content['annotations'][1]['bbox'][2] = 0.5  # of less than a pixel
    write_json(tmp_path / 'train.json', content)
    data = prepare(read_data(tmp_path))
    assert '1 box without area skipped' in data.said
    assert len(data.splits['train']['annotations']) == 4


def _voc(root: Path, extra: str = '', difficult: int = 0) -> PreparedData:
    write_image(root / 'x.png', 50, 40)
    write_image(root / 'y.png', 50, 40)
    for stem, flag in (('x', 0), ('y', difficult)):
        (root / f'{stem}.xml').write_text(
            f'<annotation>{extra}<filename>wrong.jpg</filename><size><width>50</width><height>40</height></size>'
            f'<object><name>cat</name><difficult>{flag}</difficult><bndbox><xmin>1</xmin><ymin>2</ymin><xmax>50</xmax>'
            '<ymax>40</ymax></bndbox></object></annotation>')
    return prepare(read_data(root), split=False)


def test_voc_corners_are_edges_unless_the_challenge_wrote_them(tmp_path: Path) -> None:
    """The challenge's own files count pixels from 1 and include the last: 1..50 is all of a width of 50."""
    plain, challenge = (data.splits['']['annotations'][0]['bbox'] for data in (
        _voc(tmp_path / 'a'), _voc(tmp_path / 'b', '<source><database>The VOC2007 Database</database></source>')))
    assert plain == [1, 2, 49, 38]
    assert challenge == [0, 1, 50, 39]


def test_difficult_boxes_of_voc_are_not_counted(tmp_path: Path) -> None:
    data = _voc(tmp_path, difficult=1)
    assert [box['iscrowd'] for box in data.splits['']['annotations']] == [0, 1]
    assert '1 box marked difficult: neither training nor evaluation counts them' in data.said


def test_yolo_outlines_and_upright_images(tmp_path: Path) -> None:
    """The box of an outline; relative to the image as its EXIF orientation turns it: 20 x 10 is shown as 10 x 20."""
    exif = Image.Exif()
    exif[0x0112] = 6
    for stem in ('x', 'y'):
        Image.new('RGB', (20, 10)).save(tmp_path / f'{stem}.jpg', exif=exif)
        (tmp_path / f'{stem}.txt').write_text('0 0.1 0.2 0.5 0.1 0.3 0.9\n\n')
    (tmp_path / 'classes.txt').write_text('leaf\n')
    (part,) = prepare(read_data(tmp_path), split=False).splits.values()
    assert (part['images'][0]['width'], part['images'][0]['height']) == (10, 20)
    assert part['annotations'][0]['bbox'] == pytest.approx([1, 2, 4, 16])
    assert part['annotations'][0]['source'] == 'x.txt:1'


def test_faulty_lines_are_named_and_left_out(tmp_path: Path) -> None:
    like_ultralytics(tmp_path)
    (tmp_path / 'labels/train/b.txt').write_text(
        '0 .5 .5 .2 .2\n0 .5 .5 .2\n4 .5 .5 .2 .2\n0 x .5 .2 .2\n0 .5 .5 -.2 .2\n')
    raw = read_data(tmp_path)
    assert [(fault.where.rpartition('/')[2], fault.what.split(' (')[0][:40]) for fault in raw.faults] == [
        ('b.txt:2', 'has 4 numbers: a box has 5, an outline a'),
        ('b.txt:3', 'has the class 4, but there are 4 class n'),
        ('b.txt:4', 'is not a valid box'),
        ('b.txt:5', 'is not a valid box')]
    assert raw.splits['train'].counts == '4 images, 5 boxes'


def test_faulty_xml_is_named_and_left_out(tmp_path: Path) -> None:
    like_vocdevkit(tmp_path)
    folder = tmp_path / 'VOC2012/Annotations'
    (folder / 'a.xml').write_text((folder / 'a.xml').read_text()[:150])
    (folder / 'd.xml').write_text((folder / 'd.xml').read_text().replace('<xmin>200</xmin>', '<xmin>400</xmin>'))
    raw = read_data(tmp_path)
    assert [fault.where for fault in raw.faults] == ['VOC2012/Annotations/a.xml', 'VOC2012/Annotations/d.xml: object 2']
    assert raw.splits['train'].counts == '3 images, 2 boxes'
    assert 'not used: 1 XML file (in none of the image sets): VOC2012/Annotations/unused.xml' in raw.notes


def test_faulty_entries_of_json_are_named_and_left_out(tmp_path: Path) -> None:
    one_image_folder(tmp_path)
    content = coco('train')
    content['annotations'][0]['category_id'] = 5
    content['annotations'][1]['bbox'] = [1, 2, 3]
    content['images'][1]['width'] = -1
    write_json(tmp_path / 'train.json', content)
    raw = read_data(tmp_path)
    assert [f'{fault.where} {fault.what[:24]}' for fault in raw.faults] == [
        'train.json: image 2 needs a positive number ',
        'train.json: annotation 1 has the category_id 5, w',
        "train.json: annotation 2 needs 'bbox' as [x, y, w"]
    assert raw.splits['train'].counts == '3 images, 2 boxes'


def test_sizes_that_json_lacks_are_read_from_the_images(tmp_path: Path) -> None:
    one_image_folder(tmp_path)
    content = coco('train')
    for image in content['images']:
        del image['width'], image['height']
    write_json(tmp_path / 'train.json', content)
    sizes = [(image['width'], image['height']) for image in read_data(tmp_path).splits['train'].coco['images']]
    assert sizes == [truth[1:3] for truth in TRUTH.values() if truth[0] == 'train']


def _spoil(root: Path, name: str) -> Path:
    """A folder with one thing wrong."""
    one_image_folder(root)
    if name == 'truncated':
        (root / 'train.json').write_text((root / 'train.json').read_text()[:-9])
    elif name == 'two':
        write_json(root / 'more/train.json', coco('train'))
    elif name == 'elsewhere':
        for path in (root / 'images').iterdir():
            path.unlink()
    elif name == 'unlabelled':
        for path in root.glob('*.json'):
            path.unlink()
    elif name == 'only test':
        (root / 'train.json').unlink()
    return root / 'nowhere' if name == 'missing' else root


@pytest.mark.parametrize(('name', 'sentence'), [
    ('missing', 'there is no folder .*nowhere'),
    ('truncated', r'train\.json is not valid JSON: '),
    ('two', r'2 JSON files in .* could hold the train split \(train\.json, more/train\.json\)'),
    ('elsewhere', r'the images of .*train\.json are not in .*: the first, a\.png, is in none of its folders'),
    ('unlabelled', 'holds 6 images, but no annotations in a supported format'),
    ('only test', 'has no training split, only val'),
])
def test_what_cannot_be_read_is_one_sentence(name: str, sentence: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=sentence):
        prepare(read_data(_spoil(tmp_path, name)))


def test_globox_is_asked_for_only_where_it_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, 'globox', None)
    one_image_folder(tmp_path / 'coco')
    like_ultralytics(tmp_path / 'yolo')
    assert prepare(read_data(tmp_path / 'coco')).classes
    with pytest.raises(UserError, match='needs the package globox: pip install globox'):
        read_data(tmp_path / 'yolo')


def test_the_pin_of_globox_is_the_one_that_is_named() -> None:
    pins = (Path(__file__).parents[2] / 'requirements.txt').read_text().splitlines()
    assert 'globox==2.9.0' in pins


def test_written_files_are_plain_coco(tmp_path: Path) -> None:
    one_image_folder(tmp_path)
    paths = prepare(read_data(tmp_path)).write(tmp_path / 'out')
    assert sorted(paths) == ['train', 'val']
    assert sorted(path.name for path in (tmp_path / 'out').iterdir()) == ['train.json', 'val.json']
    written = json.loads(Path(paths['train']).read_text())
    assert written['images'][0] == {'id': 1, 'file_name': 'images/a.png', 'width': 101, 'height': 67}
