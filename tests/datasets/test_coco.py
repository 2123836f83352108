"""What the COCO data set keeps, and the sentence it says about every kind of broken input."""
from __future__ import annotations

import argparse
import copy
import json
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from sparse_rcnn_mm.datasets import CocoDataset, DigitsDataset
from sparse_rcnn_mm.datasets.coco import _as_option
from sparse_rcnn_mm.engine import add_common_arguments
from sparse_rcnn_mm.errors import UserError
from sparse_rcnn_mm.terminal import one_line


def _annotation(annotation_id: int, image_id: int, category_id: int, bbox: list[float], **more: Any) -> dict:
    return {'id': annotation_id, 'image_id': image_id, 'category_id': category_id, 'bbox': bbox,
            'area': bbox[2] * bbox[3], 'iscrowd': 0, **more}


COCO: dict[str, list[dict]] = {
    'images': [{'id': 30, 'file_name': 'c.jpg', 'width': 40, 'height': 20},
               {'id': 7, 'file_name': 'a.jpg', 'width': 20, 'height': 40},
               {'id': 12, 'file_name': 'b.jpg', 'width': 40, 'height': 40}],
    'categories': [{'id': 0, 'name': 'cat'}, {'id': 17, 'name': 'dog'}, {'id': 90, 'name': 'fox'}],
    'annotations': [
        _annotation(1, 30, 90, [1, 2, 10, 5]),
        _annotation(2, 30, 0, [5, 5, 30, 10], iscrowd=1),
        _annotation(3, 7, 17, [-3, 0.5, 50, 30]),
        _annotation(4, 7, 17, [2, 2, 0.5, 0.25]),
        _annotation(5, 7, 0, [3, 3, 4, 4], segmentation=[[1, 2, 3, 4]]),
        _annotation(6, 7, 0, [3, 3, 4, 5], segmentation=[[1, 2, 3, 4], [1, 1, 2, 2, 3, 1]]),
        _annotation(7, 7, 0, [3, 3, 4, 6], ignore=1),
    ],
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / 'images').mkdir()
    for image in COCO['images']:
        Image.new('RGB', (image['width'], image['height'])).save(tmp_path / 'images' / image['file_name'])
    return tmp_path


def _build(root: Path, content: object = COCO, classes: object = ('cat', 'dog', 'fox'), **more: Any) -> CocoDataset:
    text = content if isinstance(content, str) else json.dumps(content)
    (root / 'coco.json').write_text(text)
    return CocoDataset(**{'data_root': str(root), 'ann_file': 'coco.json', 'data_prefix': {'img': 'images'},
                          'metainfo': {'classes': classes}, **more})


def _changed(key: str, index: int, **entry: Any) -> dict:
    """The annotation file with one entry changed; a value of None removes the key."""
    coco = copy.deepcopy(COCO)
    coco[key][index].update(entry)
    coco[key][index] = {name: value for name, value in coco[key][index].items() if value is not None}
    return coco


def test_boxes_are_kept_as_detectron2_keeps_them(root: Path) -> None:
    """Images by id; crowd, ignored and invalid-polygon boxes dropped; thin and protruding boxes kept as they are."""
    dataset = _build(root)
    assert [dataset.get_data_info(index)['img_id'] for index in range(3)] == [7, 12, 30]
    found = [[(instance['bbox'], instance['bbox_label']) for instance in dataset.get_data_info(index)['instances']]
             for index in range(3)]
    assert found == [
        [([-3, 0.5, 47, 30.5], 1), ([2, 2, 2.5, 2.25], 1), ([3, 3, 7, 8], 0)],
        [],  # the image without annotations stays
        [([1, 2, 11, 7], 2)],
    ]


def test_filtering_is_a_choice(root: Path) -> None:
    dataset = _build(root, filter_cfg={'filter_empty_gt': True})
    assert [dataset.get_data_info(index)['img_id'] for index in range(len(dataset))] == [7, 30]
    assert len(_build(root, filter_cfg={'min_size': 40})) == 1
    assert len(_build(root, filter_cfg={'filter_empty_gt': True}, test_mode=True)) == 3


def test_some_of_the_classes_may_be_chosen(root: Path) -> None:
    dataset = _build(root, classes=['dog', 'fox'])
    assert dataset.cat_ids == [17, 90]
    assert [instance['bbox_label'] for instance in dataset.get_data_info(0)['instances']] == [0, 0]
    assert [instance['bbox_label'] for instance in dataset.get_data_info(2)['instances']] == [1]


def test_a_single_class_needs_no_tuple(root: Path) -> None:
    dataset = _build(root, classes='fox')
    assert dataset.metainfo['classes'] == ('fox',)
    assert dataset.cat_ids == [90]


def test_more_classes_than_colours_drop_the_palette(root: Path) -> None:
    names = [f'class {index}' for index in range(81)]
    coco = {'images': COCO['images'], 'annotations': [],
            'categories': [{'id': index, 'name': name} for index, name in enumerate(names)]}
    assert 'palette' not in _build(root, coco, classes=names).metainfo
    assert len(_build(root).metainfo['palette']) == 80


@pytest.mark.parametrize(('dataset', 'hint'), [(CocoDataset, 'sparse-rcnn download coco'),
                                               (DigitsDataset, 'sparse-rcnn digits')])
def test_missing_annotation_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dataset: type, hint: str) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=rf'not found: {tmp_path}/data/x\.json; .*{hint}'):
        dataset(data_root='data', ann_file='x.json', data_prefix={'img': 'images'})


def test_missing_image_folder(root: Path) -> None:
    with pytest.raises(UserError, match=rf'image folder not found: {root}/train2017; .*sparse-rcnn download coco'):
        _build(root, data_prefix={'img': 'train2017'})


def test_images_in_another_folder(root: Path) -> None:
    with pytest.raises(UserError, match=rf'names the image c\.jpg, which is not in the image folder {root}: set'):
        _build(root, data_prefix={'img': ''})


@pytest.mark.parametrize(('content', 'sentence'), [
    ('{"images": [', r'coco\.json is not valid JSON: .* line 1 column 13'),
    ('[1, 2]', r'not in COCO format: it contains a list'),
    ({'images': []}, r"has no list 'annotations' \(found: images\)"),
    ({**COCO, 'categories': None}, r"has no list 'categories'"),
    ({**COCO, 'images': []}, r"has an empty list 'images'"),
    ({**COCO, 'categories': [{'id': 1, 'name': 'a'}, {'id': 2, 'name': 'a'}]}, r"2 categories called 'a'"),
    (_changed('categories', 1, name=None), r"entry 1 of 'categories' .* has no 'name': \{\"id\": 17\}"),
    (_changed('images', 2, file_name=None), r"entry 2 of 'images' .* has no 'file_name'"),
    (_changed('images', 0, width=0), r"entry 0 of 'images' .* positive number of pixels as 'width', not 0"),
    (_changed('images', 0, id='7'), r"entry 0 of 'images' .* needs a whole number as 'id', not '7'"),
    (_changed('images', 1, id=30), r"entry 1 of 'images' .* has the id of an earlier entry"),
    (_changed('annotations', 1, id=1), r"entry 1 of 'annotations' .* has the id of an earlier entry"),
    (_changed('annotations', 3, image_id=99), r"entry 3 of 'annotations' .* has the image_id 99, which is not in"),
    (_changed('annotations', 3, category_id=1), r"entry 3 of 'annotations' .* has the category_id 1, which is not"),
    (_changed('annotations', 4, bbox=None), r"entry 4 of 'annotations' .* needs 'bbox' as .*, not None"),
    (_changed('annotations', 4, bbox=[1, 2, 3]), r'not \[1, 2, 3\]'),
    (_changed('annotations', 4, bbox=[1, 2, -3, 4]), r'not \[1, 2, -3, 4\]'),
    (_changed('annotations', 4, bbox=[1, 2, float('nan'), 4]), r'not \[1, 2, nan, 4\]'),
    ({**COCO, 'annotations': [3]}, r"entry 0 of 'annotations' .* is a int, not an object"),
])
def test_malformed_annotation_file(root: Path, content: object, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence) as caught:
        _build(root, content)
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize('key', ['area', 'iscrowd'])
def test_what_only_the_metric_needs_is_asked_of_evaluated_files_only(root: Path, key: str) -> None:
    coco = _changed('annotations', 0, **{key: None})
    assert len(_build(root, coco)) == 3
    with pytest.raises(UserError, match=rf"entry 0 of 'annotations' .* has no '{key}', which the COCO metric needs"):
        _build(root, coco, test_mode=True)


def test_a_test_set_comes_without_annotations(root: Path) -> None:
    coco = {'images': COCO['images'], 'categories': COCO['categories']}
    assert len(_build(root, coco, test_mode=True)) == 3
    with pytest.raises(UserError, match="has no list 'annotations'"):
        _build(root, coco)


def test_classes_that_the_file_does_not_have(root: Path) -> None:
    with pytest.raises(UserError) as caught:
        _build(root, classes=('cat', 'cow'))
    assert 'the config has 2: cat, cow, the file has 3: cat, dog, fox' in str(caught.value)
    assert suggested(caught.value) == {'train_dataloader.dataset.metainfo.classes': ('cat', 'dog', 'fox')}
    with pytest.raises(UserError, match=r'val_dataloader\.dataset\.metainfo'):
        _build(root, classes=('cat', 'cow'), test_mode=True)
    with pytest.raises(UserError, match=r'the config has 80: person, .*\(70 more\), the file has 3'):
        _build(root, metainfo=None)


def suggested(error: Exception) -> dict:
    """What the command that an error suggests would set, if it was pasted into a shell."""
    command = re.search(r'(--cfg-options .*) \(for every data set\)', str(error))
    assert command
    parser = argparse.ArgumentParser()
    add_common_arguments(parser)
    return parser.parse_args(shlex.split(command[1])).cfg_options


HOSTILE = ['$(touch x)', '`touch x`', 'traffic light', "it's", 'a"b', 'a,b', '(a', '[b]', 'a\nb', '\x1b[31m', 'c\\',
           ';x', '1', 'None', '\u202e', '信号灯', '-x', '#', '!!', '=']


@given(names=st.lists(st.sampled_from(HOSTILE) | st.text(min_size=1, max_size=9), min_size=1, max_size=10, unique=True))
@settings(max_examples=100, deadline=None)
def test_the_suggested_option_gives_back_the_names(names: list[str]) -> None:
    option = _as_option('a.b', tuple(names))
    assert suggested(ValueError(f'--cfg-options {option} (for every data set)')) == {'a.b': tuple(names)}
    assert one_line(option) == option  # as it is on the terminal


def test_the_suggested_option_runs_nothing_in_a_shell(tmp_path: Path) -> None:
    option = _as_option('a.b', tuple(name for name in HOSTILE[:10]))
    done = subprocess.run(['sh', '-c', f'printf %s {option}'], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == f'a.b={tuple(HOSTILE[:10])!r}' and not list(tmp_path.iterdir())


def test_labels_follow_the_configured_order(root: Path) -> None:
    dataset = _build(root, classes=('fox', 'cat', 'dog'))
    assert dataset.metainfo['cat_ids'] == (90, 0, 17)
    assert [[instance['bbox_label'] for instance in dataset.get_data_info(index)['instances']]
            for index in range(3)] == [[2, 2, 1], [], [0]]
    with pytest.raises(UserError, match='not the categories'):
        _build(root, classes=('fox', 'cat', 'fox'))


def test_an_unknown_option_is_refused(root: Path) -> None:
    with pytest.raises(TypeError, match='no_such_option'):
        _build(root, no_such_option=1)
