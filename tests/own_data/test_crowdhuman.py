"""CrowdHuman's odgt files: the authors' COCO JSON byte for byte, and what a user is told of odd lines."""
from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from mmengine.config import Config

from sparse_rcnn_mm.cli.commands import run
from sparse_rcnn_mm.errors import UserError
from sparse_rcnn_mm.own_data.config import set_training_data
from sparse_rcnn_mm.own_data.crowdhuman_form import convert
from sparse_rcnn_mm.own_data.inspection import data_errors
from sparse_rcnn_mm.own_data.reading import read_data
from tests.kit import CONFIGS
from tests.kit.crowdhuman import content, parsed, write_crowdhuman
from tests.kit.data_sets import write_image

BOX = {'tag': 'person', 'fbox': [1, 2, 30, 40], 'vbox': [1, 2, 30, 20], 'hbox': [3, 4, 5, 6], 'extra': {'ignore': 0}}


def write_lines(folder: Path, *lines: Any) -> Path:
    """annotation_train.odgt of these lines, and the pictures a.jpg and b.png of 64 x 48 pixels."""
    write_image(folder / 'Images/a.jpg', 64, 48)
    write_image(folder / 'Images/b.png', 64, 48)
    (folder / 'annotation_train.odgt').write_text(
        '\n'.join(line if isinstance(line, str) else json.dumps(line) for line in lines) + '\n')
    return folder


def test_the_command_writes_the_authors_file(tmp_path: Path, capsys: pytest.CaptureFixture,
                                             monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr('sys.argv', [])
    folder = write_crowdhuman(tmp_path / 'crowdhuman')
    assert run(['crowd', 'convert', str(folder), str(folder / 'annotations')]) == 0
    assert (folder / 'annotations/val.json').read_bytes() == content('val.json')
    train = json.loads((folder / 'annotations/train.json').read_text())
    assert [image['file_name'][:11] for image in train['images']] == ['train273271', 'train273272']
    assert capsys.readouterr().out.splitlines()[1] == f'{folder}/annotations/val.json: 41 images, 1198 boxes'
    # what the command wrote is no input, so that the folder can be trained on as it is
    assert read_data(folder).form == 'CrowdHuman odgt'


def test_training_data_are_the_same_boxes(tmp_path: Path) -> None:
    folder = write_crowdhuman(tmp_path / 'crowdhuman')
    cfg = Config.fromfile(CONFIGS / 'sparse_rcnn_r50_500pro_crowdhuman.py')
    cfg.work_dir = str(tmp_path / 'work')
    set_training_data(cfg, str(folder))
    val = json.loads(Path(cfg.val_dataloader.dataset.ann_file).read_text())
    theirs = parsed('val.json')
    assert [(box['image_id'], box['bbox'], box['iscrowd'], box['area']) for box in val['annotations']] == [
        (box['image_id'], box['bbox'], box['iscrowd'], box['area']) for box in theirs['annotations']]
    assert [Path(image['file_name']).name for image in val['images']] == [
        image['file_name'] for image in theirs['images']]
    assert val['categories'] == [{'id': 1, 'name': 'person'}]
    assert cfg.val_evaluator == {'type': 'CrowdHumanMetric', 'ann_file': cfg.val_dataloader.dataset.ann_file}
    assert cfg.model.roi_head.bbox_head.num_classes == 1


def test_what_is_decided_is_said(tmp_path: Path) -> None:
    outside = {**BOX, 'fbox': [64, 0, 10, 10]}
    ignored = {**BOX, 'extra': {'ignore': 1}}
    mask = {'tag': 'mask'}
    write_lines(tmp_path, {'ID': 'a', 'gtboxes': [BOX, {**BOX, **mask}, {**ignored, **mask}, outside]}, '',
                {'ID': 'b', 'gtboxes': [ignored, {**BOX, 'head_attr': {'ignore': 1}, 'fbox': [0, 0, 0, 9]}]})
    data = read_data(tmp_path)
    assert data.notes[:2] == [
        '1 box with another tag than person, but without extra.ignore, taken as person, as the authors of Sparse R-CNN '
        'take them; the first: annotation_train.odgt:1, box 1',
        '2 boxes completely outside of the image skipped; the first: annotation_train.odgt:1, box 3']
    coco = data.splits['train'].coco
    assert [(box['image_id'], box['iscrowd']) for box in coco['annotations']] == [(1, 0), (1, 0), (1, 1), (2, 1)]
    assert [image['file_name'] for image in coco['images']] == ['Images/a.jpg', 'Images/b.png']


@pytest.mark.parametrize(('line', 'said'), [
    ('{"ID": "b"', 'annotation_train.odgt:2 is not valid JSON: .+'),
    ('[' * 100_000, 'annotation_train.odgt:2 is not valid JSON: .+'),
    ('[1]', 'annotation_train.odgt:2 holds a list, not an object with ID and gtboxes'),
    ({'gtboxes': []}, "annotation_train.odgt:2 needs the name of an image as 'ID', not 'None'"),
    ({'ID': 'b'}, "annotation_train.odgt:2 has no list 'gtboxes'"),
    ({'ID': 'b', 'gtboxes': ['x']}, 'annotation_train.odgt:2, box 0 is a str, not an object'),
    ({'ID': 'b', 'gtboxes': [BOX, {**BOX, 'fbox': [1, 2, 3]}]},
     r"annotation_train.odgt:2, box 1 needs \[x, y, width, height\] of the whole body as 'fbox', not \[1, 2, 3\]"),
    ({'ID': 'b', 'gtboxes': [{**BOX, 'vbox': [1, 2, 3, float('nan')]}]}, ".*its visible part as 'vbox'.*"),
    ({'ID': 'b', 'gtboxes': [{**BOX, 'extra': []}]}, "annotation_train.odgt:2, box 0 has a list as 'extra', .*"),
    ({'ID': 'c', 'gtboxes': [BOX]}, r'c \(annotation_train.odgt:2\) there is no such image'),
])
def test_wrong_lines_are_named(line: Any, said: str, tmp_path: Path) -> None:
    write_lines(tmp_path / 'data', {'ID': 'a', 'gtboxes': [BOX]}, line)
    (error,) = [f'{finding.where} {finding.what}' for finding in data_errors(read_data(tmp_path / 'data'))]
    with pytest.raises(UserError, match=f'^1 fault in .*, the first: {said}; .sparse-rcnn inspect. lists them$'):
        convert(str(tmp_path / 'data'), tmp_path / 'out')
    assert not (tmp_path / 'out').exists()
    assert error.split(' ', 1)[0] in (said.split(' ', 1)[0], 'annotation_train.odgt:2,')


@pytest.mark.parametrize(('lines', 'said'), [
    (['x'], 'no odgt file in .* has any box: annotation_train.odgt:1 is not valid JSON'),
    ([{'ID': 'a', 'gtboxes': []}], 'no odgt file in .* has any box'),
    ([{'ID': 'a', 'gtboxes': [BOX]}, {'ID': 'a', 'gtboxes': []}],
     'annotation_train.odgt:1 and annotation_train.odgt:2 in .* are both about the image a: remove one'),
    ([{'ID': 'a', 'gtboxes': [BOX]}, {'ID': 'A', 'gtboxes': []}], 'a and A in .* are both the image Images/a.jpg'),
    ([{'ID': 'c', 'gtboxes': [BOX]}], 'the images of .* are not below .*: the first is c.jpg'),
])
def test_what_cannot_be_read_is_one_sentence(lines: list[Any], said: str, tmp_path: Path) -> None:
    write_lines(tmp_path, *lines)
    with pytest.raises(UserError, match=said):
        read_data(tmp_path)


def test_two_files_of_a_split_and_an_output_on_the_data(tmp_path: Path) -> None:
    write_lines(tmp_path, {'ID': 'a', 'gtboxes': [BOX]})
    with pytest.raises(UserError, match='is the folder of the data: write to another one'):
        convert(str(tmp_path), tmp_path)
    (tmp_path / 'train.odgt').write_text('')
    with pytest.raises(UserError, match='could both hold the train split'):
        read_data(tmp_path)


def test_a_test_split_needs_no_boxes(tmp_path: Path) -> None:
    write_lines(tmp_path, {'ID': 'a', 'gtboxes': [BOX]})
    (tmp_path / 'annotation_test.odgt').write_text('{"ID": "b"}\n')
    convert(str(tmp_path), tmp_path / 'annotations')
    coco = json.loads((tmp_path / 'annotations/test.json').read_text())
    assert (coco['images'], coco['annotations']) == ([{'file_name': 'b.png', 'id': 1, 'height': 48, 'width': 64}], [])
    assert 'annotation_test.odgt has no boxes and is left out' in read_data(tmp_path).notes
