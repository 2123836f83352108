"""A clean data set has no findings; each of the faults planted in it is found and named."""
from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sparse_rcnn_mm.own_data.inspection import Findings, inspect_data, without_faulty_images
from sparse_rcnn_mm.own_data.overview import ModelSettings, overview
from sparse_rcnn_mm.own_data.reading import read_data
from sparse_rcnn_mm.visualization.contact_sheet import contact_sheet

PROPOSALS = 20


def _box(number: int, image: int, bbox: list[float], category: int = 1) -> dict:
    return {'id': number, 'image_id': image, 'category_id': category, 'bbox': bbox, 'area': bbox[2] * bbox[3],
            'iscrowd': 0}


def clean(root: Path) -> None:
    """Six JPEG files of 64 x 48 pixels in train, three in val, each with two boxes of two classes."""
    (root / 'images').mkdir(parents=True)
    number = 0
    for split, count in (('train', 6), ('val', 3)):
        coco: dict[str, list] = {'images': [], 'annotations': [],
                                 'categories': [{'id': 1, 'name': 'cat'}, {'id': 2, 'name': 'dog'}]}
        for image in range(1, count + 1):
            number += 1
            name = f'{split}{image}.jpg'
            pixels = np.random.RandomState(number).randint(0, 255, (48, 64, 3), np.uint8)
            Image.fromarray(pixels).save(root / 'images' / name)
            coco['images'].append({'id': image, 'file_name': name, 'width': 64, 'height': 48})
            coco['annotations'] += [_box(2 * image - 1, image, [0, 0, 64, 48]),
                                    _box(2 * image, image, [10.5, 10, 20, 20], category=2)]
        (root / f'{split}.json').write_text(json.dumps(coco))


def _edit(root: Path, change: Callable[[dict], None], split: str = 'train') -> None:
    path = root / f'{split}.json'
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def plant(root: Path) -> None:
    """Twelve faults, one of each kind, on images and boxes of their own."""
    images = root / 'images'
    (images / 'train1.jpg').write_bytes((images / 'train1.jpg').read_bytes()[:900])  # cut off
    (images / 'train2.jpg').unlink()  # missing
    Image.new('RGB', (65, 48)).save(images / 'train3.jpg')  # of another size than annotated
    shutil.copy(images / 'train4.jpg', images / 'val1.jpg')  # leakage
    shutil.copy(images / 'val3.jpg', images / 'val2.jpg')  # the same image twice

    def in_train(coco: dict) -> None:
        coco['annotations'] += [
            _box(101, 4, [5, 5, 0, 10]),  # no area
            _box(102, 4, [70, 5, 10, 10]),  # outside
            _box(103, 4, [50, 40, 20, 20]),  # beyond the edge
            _box(104, 4, [10.5, 10, 20, 20], category=2),  # again
            _box(105, 4, [1, 1, 2, 2], category=7),  # of no class
            *(_box(200 + index, 5, [index, 0, 5, 5]) for index in range(PROPOSALS)),  # more than proposals
        ]
        coco['annotations'] = [box for box in coco['annotations'] if box['image_id'] != 6]  # no boxes

    _edit(root, in_train)


def _inspect(root: Path, decode: bool = False) -> Findings:
    return inspect_data(read_data(root), PROPOSALS, decode)


def test_a_clean_set_has_no_findings(tmp_path: Path) -> None:
    clean(tmp_path)
    assert _inspect(tmp_path) == Findings()
    assert _inspect(tmp_path, decode=True) == Findings()


def test_every_planted_fault_is_found_and_named(tmp_path: Path) -> None:
    clean(tmp_path)
    plant(tmp_path)
    found = _inspect(tmp_path)
    assert [(finding.kind, finding.where) for finding in found.errors] == [
        ('entry', 'train.json: annotation 105'),
        ('image', 'images/train1.jpg (image 1 of train.json)'),
        ('image', 'images/train2.jpg (image 2 of train.json)'),
        ('image', 'images/train3.jpg (image 3 of train.json)'),
        ('outside', 'train.json: annotation 102'),
        ('leakage', 'images/val1.jpg'),
    ]
    assert [(finding.kind, finding.where) for finding in found.warnings] == [
        ('no area', 'train.json: annotation 101'),
        ('beyond', 'train.json: annotation 103'),
        ('same box', 'train.json: annotation 104'),
        ('many boxes', 'images/train5.jpg (image 5 of train.json)'),
        ('no boxes', 'images/train6.jpg (image 6 of train.json)'),
        ('same image', 'images/val3.jpg'),
    ]
    said = '\n'.join(map(str, [*found.errors, *found.warnings]))
    for part in ('has the category_id 7, which is not in the file', 'cannot be decoded', 'there is no such image',
                 'is 65 x 48 pixels, but annotated as 64 x 48', 'reaches 12.0 pixels beyond the image: training',
                 'is a duplicate of train.json: annotation 8', 'has 22 boxes, more than the 20 proposals',
                 'of the val split is the same image as images/train4.jpg of the train split'):
        assert part in said


def _findings_of_a_box(root: Path, bbox: list[float]) -> list[str]:
    """The kinds of findings of one more box in an image of 64 x 48 pixels."""
    clean(root)
    _edit(root, lambda coco: coco['annotations'].append(_box(99, 1, bbox)))
    found = _inspect(root)
    return [finding.kind for finding in [*found.errors, *found.warnings]]


@pytest.mark.parametrize(('bbox', 'kinds'), [
    ([-10, 5, 10, 10], ['outside']), ([5, -10, 10, 10], ['outside']), ([64, 5, 9, 9], ['outside']),
    ([5, 48, 9, 9], ['outside']), ([-10, 5, 10.5, 10], ['beyond']), ([5, -10, 10, 10.5], ['beyond']),
    ([63.5, 5, 9, 9], ['beyond']), ([5, 47.5, 9, 9], ['beyond']), ([-1, -1, 30, 30], []), ([40, 20, 25, 29], []),
    ([-1.1, 5, 9, 9], ['beyond']), ([5, 5, 0, 9], ['no area']), ([5, 5, 9, 0], ['no area']),
    ([70, 5, 0, 9], ['no area']), ([1, 1, 0.5, 0.5], []), ([10.7, 10.2, 20, 20], [])], ids=str)
def test_where_a_box_begins_to_be_a_finding(tmp_path: Path, bbox: list[float], kinds: list[str]) -> None:
    assert _findings_of_a_box(tmp_path, bbox) == kinds


@pytest.mark.parametrize(('bbox', 'category', 'same'), [
    ([10.6, 10, 20, 20], 2, True), ([10.5, 10, 20, 20], 1, False), ([10.5, 11, 20, 20], 2, False),
    ([10.5, 10, 20, 21], 2, False)])
def test_where_a_box_is_a_duplicate(tmp_path: Path, bbox: list[float], category: int, same: bool) -> None:
    clean(tmp_path)
    _edit(tmp_path, lambda coco: coco['annotations'].append(_box(99, 1, bbox, category)))
    assert [finding.kind for finding in _inspect(tmp_path).warnings] == ['same box'] * same


@pytest.mark.parametrize(('count', 'kinds'), [(PROPOSALS, []), (PROPOSALS + 1, ['many boxes'])])
def test_how_many_boxes_are_too_many(tmp_path: Path, count: int, kinds: list[str]) -> None:
    clean(tmp_path)
    _edit(tmp_path, lambda coco: coco['annotations'].extend(_box(100 + n, 1, [n, 1, 5, 5]) for n in range(count - 2)))
    assert [finding.kind for finding in _inspect(tmp_path).warnings] == kinds


def test_faulty_images_can_be_left_out(tmp_path: Path) -> None:
    clean(tmp_path)
    plant(tmp_path)
    coco = without_faulty_images(read_data(tmp_path)).splits['train'].coco
    assert [image['id'] for image in coco['images']] == [4, 5, 6]
    assert {box['image_id'] for box in coco['annotations']} == {4, 5}


def test_a_class_that_only_validation_has(tmp_path: Path) -> None:
    clean(tmp_path)
    _edit(tmp_path, lambda coco: coco['annotations'].__delitem__(slice(1, None, 2)))
    (finding,) = _inspect(tmp_path).warnings
    assert str(finding) == 'train.json: has no box of the class dog, which is in val'


def test_lines_of_yolo_are_named(tmp_path: Path) -> None:
    for stem, line in (('a', '0 .5 .5 .2 .2\n'), ('b', '0 .5 .5 .2 .2\n\n0 1.5 .5 .2 .2\n')):
        Image.new('RGB', (10, 10), 'red' if stem == 'a' else 'blue').save(tmp_path / f'{stem}.png')
        (tmp_path / f'{stem}.txt').write_text(line)
    (tmp_path / 'classes.txt').write_text('leaf\n')
    (finding,) = _inspect(tmp_path).errors
    assert str(finding) == 'b.txt:3: box (14, 4, 16, 6) in b.png is outside the image, 10 x 10'


@pytest.mark.parametrize('kind', ['jpg', 'png'])
def test_files_that_end_early_are_found_without_decoding_all(tmp_path: Path, kind: str) -> None:
    """And files with something behind the image are not held against it."""
    clean(tmp_path)
    _edit(tmp_path, lambda coco: [image.update(file_name=image['file_name'][:-3] + kind) for image in coco['images']])
    for path in (tmp_path / 'images').glob('train*.jpg'):
        Image.open(path).convert('RGB').save(path.with_suffix(f'.{kind}'))
    (tmp_path / f'images/train1.{kind}').write_bytes((tmp_path / f'images/train1.{kind}').read_bytes() + b'!' * 9999)
    assert _inspect(tmp_path) == Findings()
    broken = tmp_path / f'images/train2.{kind}'
    broken.write_bytes(broken.read_bytes()[:-300])
    # image sizes are remembered for the process: a new name is a new file
    broken.rename(tmp_path / f'images/cut.{kind}')
    _edit(tmp_path, lambda coco: coco['images'][1].update(file_name=f'cut.{kind}'))
    (finding,) = _inspect(tmp_path).errors
    assert finding.where == f'images/cut.{kind} (image 2 of train.json)'


def test_overview_counts_and_levels(tmp_path: Path) -> None:
    """Boxes of sqrt(64 * 48) = 55.4 and 20 pixels, doubled by the resize to 96 and halved by that to 24."""
    clean(tmp_path)
    settings = ModelSettings(num_proposals=20, strides=(8, 16, 32), finest_scale=14, train_sides=(24, 96),
                             test_side=None, max_long_side=None)
    lines = overview(read_data(tmp_path), settings).splitlines()
    assert lines[1].split() == ['train', '6', '12', '0', '2.0', '2', '64x48', 'to', '64x48']
    assert lines[2].split()[:4] == ['val', '3', '6', '0']
    assert [line.split()[:3] for line in lines[5:7]] == [['cat', '6', '3'], ['dog', '6', '3']]
    levels = {line.split('  ')[0]: line.split()[-5:] for line in lines[10:]}
    assert levels['as they are'] == ['50%', '50%', '0%', '38', '0.0%']
    assert levels['training, smallest: 24'] == ['100%', '0%', '0%', '19', '0.0%']
    assert levels['training, largest: 96'] == ['0%', '50%', '50%', '75', '0.0%']


def test_contact_sheet_draws_the_boxes(tmp_path: Path) -> None:
    """Two grey pictures of 40 x 20 side by side at twice the size, a box around the middle of each."""
    import torch
    from mmdet.structures import DetDataSample
    from mmengine.structures import InstanceData

    sample = DetDataSample()
    sample.gt_instances = InstanceData(bboxes=torch.tensor([[10., 5., 30., 15.]]), labels=torch.tensor([0]))
    data = [{'inputs': torch.full((3, 20, 40), 128, dtype=torch.uint8), 'data_samples': sample}] * 2
    page = np.array(contact_sheet(data, ['cat'], count=5, tile=80).convert('RGB')).astype(int)
    assert page.shape[1] == 2 * 86 + 6
    coloured = np.abs(page - page.mean(axis=2, keepdims=True)).max(axis=2) > 60
    rows, columns = np.nonzero(coloured[:, :90])
    assert (columns.min() - 6, columns.max() - 6) == (20, 60)
    assert (rows.min() - 6, rows.max() - 6) == (0, 30)  # the label stands above the box, at the upper edge
