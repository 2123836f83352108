"""Every fault of a COCO file, and the nearest value that is none."""
from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sparse_rcnn_mm.datasets.coco_json import (
    EntryFault,
    entry_faults,
    full_path,
    is_number,
    read_coco_json,
    structure_fault,
)
from sparse_rcnn_mm.errors import UserError


def plain() -> dict[str, Any]:
    return {'images': [{'id': 1, 'file_name': 'a.png', 'width': 40, 'height': 30},
                       {'id': 2, 'file_name': 'b.png', 'width': 40.5, 'height': 1}],
            'categories': [{'id': 5, 'name': 'cat'}, {'id': 0, 'name': 'dog'}],
            'annotations': [{'id': 7, 'image_id': 1, 'category_id': 5, 'bbox': [0, -1, 2.5, 0], 'area': 3,
                             'iscrowd': 0},
                            {'id': 8, 'image_id': 2, 'category_id': 0, 'bbox': [1, 2, 3, 4], 'area': 0.5,
                             'iscrowd': 1, 'ignore': True}]}


def faults_with(key: str, position: int, entry: Any, evaluated: bool = False) -> list[EntryFault]:
    """The faults of the plain file after one entry was changed: by a dict in part, else as a whole."""
    content = plain()
    content[key][position] = {**content[key][position], **entry} if isinstance(entry, dict) else entry
    return [*entry_faults(content, evaluated)]


SIDE, NUMBER = 'needs a positive number of pixels as', "needs a whole number as 'id', not"
BOX = "needs 'bbox' as [x, y, "
FAULTS: list[tuple[str, Any, str]] = [
    ('images', 3, 'is a int, not an object'), ('categories', None, 'is a NoneType, not an object'),
    ('annotations', [1], 'is a list, not an object'),
    ('images', {'id': '1'}, f"{NUMBER} '1'"), ('categories', {'id': 1.}, f'{NUMBER} 1.0'),
    ('annotations', {'id': None}, f'{NUMBER} None'), ('annotations', {'id': 2**53}, f'{NUMBER} {2**53}'),
    ('annotations', {'id': -2**53}, f'{NUMBER} -{2**53}'), ('annotations', {'id': 7}, 'has the id of an earlier entry'),
    ('images', {'file_name': 3}, "has no 'file_name'"), ('categories', {'name': 3}, "has no 'name'"),
    ('images', {'width': 0}, f"{SIDE} 'width', not 0"), ('images', {'height': -1}, f"{SIDE} 'height', not -1"),
    ('images', {'width': '9'}, f"{SIDE} 'width', not '9'"),
    ('images', {'height': 1e9 + 1}, f"{SIDE} 'height', not 1000000001"),
    ('annotations', {'image_id': 3}, 'has the image_id 3, which is not in the file'),
    ('annotations', {'image_id': '1'}, "has the image_id '1', which is not in the file"),
    ('annotations', {'category_id': 6}, 'has the category_id 6, which is not in the file'),
    ('annotations', {'bbox': [1, 2, 3]}, BOX), ('annotations', {'bbox': [1, 2, 3, 4, 5]}, BOX),
    ('annotations', {'bbox': [1, 2, -1, 4]}, BOX), ('annotations', {'bbox': [1, 2, 3, -1]}, BOX),
    ('annotations', {'bbox': [1, 2, 3, None]}, BOX), ('annotations', {'bbox': (1, 2, 3, 4)}, BOX),
    ('annotations', {'bbox': [float('nan'), 2, 3, 4]}, BOX),
    ('annotations', {'iscrowd': 'no'}, "has 'no' as 'iscrowd', which is neither 0 nor 1"),
    ('annotations', {'ignore': []}, "has [] as 'ignore', which is neither 0 nor 1"),
]


def test_a_plain_file_has_no_faults() -> None:
    assert structure_fault(plain()) == '' and [*entry_faults(plain(), True)] == []


@pytest.mark.parametrize(('key', 'entry', 'what'), FAULTS, ids=str)
def test_faults_of_entries(key: str, entry: Any, what: str) -> None:
    faults = faults_with(key, 1, entry)
    assert faults[0][:2] == (key, 1) and faults[0].what.startswith(what)


@pytest.mark.parametrize(('key', 'entry'), [
    ('annotations', {'id': 2**53 - 1}), ('annotations', {'id': -2**53 + 1}), ('images', {'width': 0.1}),
    ('images', {'width': 1e9}), ('annotations', {'bbox': [1, 2, 0, 0]}), ('annotations', {'iscrowd': None}),
    ('annotations', {'ignore': 0.}), ('annotations', {'area': None})], ids=str)
def test_values_that_are_no_faults(key: str, entry: Any) -> None:
    assert faults_with(key, 1, entry) == []


@pytest.mark.parametrize('missing', ['area', 'iscrowd'])
def test_the_metric_needs_more(missing: str) -> None:
    assert faults_with('annotations', 0, {missing: True}, evaluated=True) == [
        ('annotations', 0, "has True as 'area', which the COCO metric cannot use")] * (missing == 'area')
    for value in (None, 'x', float('inf')):
        if missing == 'area' or value != 'x':
            assert faults_with('annotations', 0, {missing: value}) == []
        (fault, *_) = faults_with('annotations', 0, {missing: value}, evaluated=True)
        assert fault.what.startswith(f"has {value!r} as '{missing}'" if value else
                                     f"has no '{missing}', which the COCO metric needs")


def test_the_ids_of_the_lists_are_their_own() -> None:
    content = plain()
    content['images'][0]['id'] = content['categories'][0]['id'] = content['annotations'][0]['id'] = 3
    content['annotations'][0].update(image_id=3, category_id=3)
    assert [*entry_faults(content, True)] == []


@pytest.mark.parametrize(('content', 'fault'), [
    ([], 'is not in COCO format: it contains a list, not an object with the lists'),
    ({}, "is not in COCO format: it has no list 'images' (found: nothing)"),
    ({**plain(), 'annotations': {}}, "it has no list 'annotations' (found: annotations, categories, images)"),
    ({**plain(), 'images': []}, "has an empty list 'images'"),
    ({**plain(), 'categories': []}, "has an empty list 'categories'"), ({**plain(), 'annotations': []}, '')], ids=str)
def test_faults_of_the_whole(content: object, fault: str) -> None:
    found = structure_fault(content)
    assert fault in found if fault else not found


def test_reading(tmp_path: Path) -> None:
    path = tmp_path / 'a.json'

    def refuses(sentence: str, evaluated: bool = False) -> None:
        with pytest.raises(UserError, match=sentence) as caught:
            read_coco_json(str(path), evaluated, 'set ann_file')
        assert '\n' not in str(caught.value)

    refuses('annotation file not found: .*a.json; set ann_file$')
    for data, sentence in ((b'{', 'a.json is not valid JSON: '), (b'[' * 200_000, 'its brackets are nested too deeply'),
                           (b'\xff\xfe\xfa', 'a.json is a binary file, not JSON'), (b'3', 'it contains a int')):
        path.write_bytes(data)
        refuses(sentence)
    content = {key: value for key, value in plain().items() if key != 'annotations'}
    path.write_text(json.dumps(content))
    refuses("has no list 'annotations'")
    assert read_coco_json(str(path), True, '') == {**content, 'annotations': []}
    path.write_text(json.dumps({**plain(), 'categories': [{'id': 5, 'name': 'cat'}, {'id': 0, 'name': 'cat'}]}))
    refuses("has 2 categories called 'cat': rename or remove one")
    path.write_text(json.dumps({**plain(), 'annotations': [*plain()['annotations'], {'id': 9}]}))
    refuses(r"entry 2 of 'annotations' in annotation file .* has the image_id None, .*: \{\"id\": 9\}$")


@pytest.mark.parametrize(('value', 'yes'), [
    (0, True), (-1e9, True), (1e9, True), (10**9 + 1, False), (-1.1e9, False), (True, False), ('1', False),
    (None, False), (float('nan'), False), (float('-inf'), False)])
def test_numbers_of_pixels(value: object, yes: bool) -> None:
    assert is_number(value) is yes


def test_addresses_stay_and_paths_become_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert full_path('s3://x/a.json') == 's3://x/a.json' and full_path('a.json') == str(tmp_path / 'a.json')
