"""Runs that are cut off, shared out and written in other forms."""
from __future__ import annotations

import csv
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes, urlsplit
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest
from PIL import Image

from sparse_rcnn_mm.errors import UserError
from sparse_rcnn_mm.inference import Detector
from sparse_rcnn_mm.inference.formats import FORMATS
from sparse_rcnn_mm.inference.records import Record, read_records
from sparse_rcnn_mm.inference.run import process
from sparse_rcnn_mm.inference.sources import find_sources
from sparse_rcnn_mm.own_data.coco_form import read_coco_split
from sparse_rcnn_mm.own_data.raw_data import Fault
from sparse_rcnn_mm.own_data.reading import read_data

RECORDS = [Record('a/one.jpg', None, 'one.jpg', 200, 100, [[20., 10., 120., 60.]], [0.75], [1]),
           Record('=cmd.png', None, 'sub/=cmd.png', 10, 20),
           Record('clip.mp4', 3, 'clip.mp4', 64, 48, [[0, 0, 64, 48]], [0.5], [0])]
CLASSES = ('=HYPERLINK("x")', 'a & b')


def written(name: str, folder: Path) -> Path:
    ending, write = FORMATS[name]
    path = folder / f'detections{ending}'
    write(path, lambda: RECORDS, CLASSES, (7, 9))
    return path


def test_coco(tmp_path: Path) -> None:
    coco = json.loads(written('coco', tmp_path).read_text())
    assert coco['info']['maker'] == 'sparse_rcnn_mm'
    assert coco['images'][2] == {'id': 3, 'file_name': 'clip.mp4', 'height': 48, 'width': 64, 'path': 'clip.mp4',
                                 'frame': 3}
    assert coco['annotations'][0] == {'id': 1, 'image_id': 1, 'category_id': 9, 'bbox': [20, 10, 100, 50], 'area': 5000,
                                      'iscrowd': 0, 'score': 0.75}


def test_a_table_holds_no_formula(tmp_path: Path) -> None:
    rows = list(csv.reader(written('csv', tmp_path).open()))
    assert rows[1] == ['one.jpg', '', 'a & b', '0.7500', '20.0', '10.0', '120.0', '60.0']
    assert rows[2][2] == '\'=HYPERLINK("x")' and rows[0][0] == 'image'
    assert not any(cell.startswith(('=', '+', '@')) for row in rows for cell in row)


def test_yolo(tmp_path: Path) -> None:
    folder = written('yolo', tmp_path)
    assert (folder / 'one.txt').read_text() == '1 0.350000 0.350000 0.500000 0.500000\n'
    assert (folder / 'clip_000003.txt').read_text() == '0 0.500000 0.500000 1.000000 1.000000\n'
    assert (folder / 'sub' / '=cmd.txt').read_text() == ''


def test_label_files_of_one_stem_are_kept_apart_and_said(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    names = ('a.jpg', 'A.png', 'b.jpg', 'sub/a.jpg', 'classes.png', 'v.avi', 'v.mp4', 'v_000001.jpg')
    records = [Record(name, 1 if name.startswith('v.') else None, name, 10, 10, [[0, 0, 10, 10]], [1], [0])
               for name in names]
    FORMATS['yolo'][1](tmp_path / 'yolo', lambda: records, ('x', 'y'), (1, 2))
    assert sorted(path.relative_to(tmp_path / 'yolo').as_posix() for path in (tmp_path / 'yolo').rglob('*.txt')) == [
        'A.png.txt', 'a.jpg.txt', 'b.txt', 'classes.png.txt', 'classes.txt', 'sub/a.txt', 'v.avi_000001.txt',
        'v.mp4_000001.txt', 'v_000001.jpg.txt']
    assert (tmp_path / 'yolo/classes.txt').read_text() == 'x\ny\n'
    assert '6 label files have the name of their image with its type, such as a.jpg.txt' in capsys.readouterr().out


def test_label_files_are_not_written_over_each_other(tmp_path: Path) -> None:
    """As Windows names files whose type is hidden."""
    records = [Record(name, None, name, 10, 10, [[0, 0, 10, number]], [1], [0])
               for number, name in enumerate(('a.jpg', 'a.jpg.jpg', 'a.png'), start=1)]
    FORMATS['yolo'][1](tmp_path / 'yolo', lambda: records, ('x',), (1,))
    heights = {path.name: path.read_text().split()[-1] for path in (tmp_path / 'yolo').glob('a*.txt')}
    assert heights == {'a_2.jpg.txt': '0.100000', 'a.jpg.txt': '0.200000', 'a.png.txt': '0.300000'}


def test_label_studio(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    path = written('label-studio', tmp_path)
    tasks = json.loads(path.read_text())
    assert len(tasks) == 2 and tasks[0]['data']['image'].endswith('a/one.jpg')
    (found,) = tasks[0]['predictions'][0]['result']
    assert found['value'] == {'x': 10, 'y': 10, 'width': 50, 'height': 50, 'rotation': 0, 'rectanglelabels': ['a & b']}
    assert capsys.readouterr().out == f'{path}: 1 frames of videos are left out, as this form is for image files\n'


def test_addresses_and_names_of_odd_files(tmp_path: Path) -> None:
    """In the address, what has a meaning there is quoted, and bytes that are no text; XML cannot hold the latter."""
    names = ('50% #1?&+ \u00e4.jpg', 'new\nline "quoted" <a>.jpg', os.fsdecode(b'\xe4\x01.jpg'))
    records = [Record(f'/data/{name}', None, f'sub/{name}', 10, 10) for name in names]
    for form in ('label-studio', 'cvat'):
        FORMATS[form][1](tmp_path / form, lambda: records, CLASSES, (7, 9))
    addresses = [task['data']['image'] for task in json.loads((tmp_path / 'label-studio').read_text())]
    assert addresses[0] == '/data/local-files/?d=data/50%25%20%231%3F%26%2B%20%C3%A4.jpg'
    assert [os.fsdecode(unquote_to_bytes(urlsplit(address).query)) for address in addresses] == [
        f'd=data/{name}' for name in names]
    images = ElementTree.parse(tmp_path / 'cvat').getroot().iter('image')
    assert [image.attrib['name'] for image in images] == [f'sub/{name}' for name in names[:2]] + ['sub/??.jpg']


def test_cvat(tmp_path: Path) -> None:
    tree = ElementTree.parse(written('cvat', tmp_path)).getroot()
    (box,) = tree.iter('box')
    assert box.attrib['label'] == 'a & b' and [box.attrib[key] for key in ('xtl', 'ytl', 'xbr', 'ybr')] == [
        '20.0', '10.0', '120.0', '60.0']
    assert [image.attrib['name'] for image in tree.iter('image')] == ['one.jpg', 'sub/=cmd.png']
    assert [name.text for name in tree.iterfind('meta/task/labels/label/name')] == list(CLASSES)


def test_our_readers_read_what_was_written(detector: Detector, folder: Path, tmp_path: Path) -> None:
    """COCO JSON and YOLO txt on images in two folders, as a data set to correct: the same boxes and classes."""
    (folder / 'sub').mkdir()
    Image.open(folder / '0.png').transpose(Image.Transpose.ROTATE_90).save(folder / 'sub/0.png')
    out = tmp_path / 'out'
    process(detector, find_sources([str(folder)]), out, pictures=False, formats=('coco', 'yolo'), score_thr=0.1)
    wanted = [(record.name, detector.classes[label], box) for record in read_records([out / 'detections.jsonl'])
              for box, label in zip(record.boxes, record.labels, strict=True)]
    assert len({name for name, _, _ in wanted}) == 6 and len(wanted) > 6
    faults: list[Fault] = []
    coco = read_coco_split(out / 'detections.json', folder, folder, faults)
    assert not faults
    data = tmp_path / 'data'
    shutil.copytree(folder, data / 'images')
    shutil.copytree(out / 'detections_yolo', data / 'labels')
    (split,) = read_data(data).splits.values()
    for boxes in (boxes_of(coco.coco), boxes_of(split.coco)):
        assert [(name.removeprefix('images/'), label) for name, label, _ in boxes] == [
            (name, label) for name, label, _ in wanted]
        np.testing.assert_allclose([box for _, _, box in boxes], [box for _, _, box in wanted], atol=0.011)


def boxes_of(coco: dict) -> list[tuple[str, str, list[float]]]:
    """(Image, class, corners) of all boxes, image after image."""
    names = {image['id']: image['file_name'] for image in coco['images']}
    classes = {category['id']: category['name'] for category in coco['categories']}
    return [(names[box['image_id']], classes[box['category_id']],
             np.add(box['bbox'], [0, 0, *box['bbox'][:2]]).tolist()) for box in coco['annotations']]


def everything(folder: Path) -> Any:
    return json.loads((folder / 'detections.json').read_text())


def test_a_run_that_was_cut_off_goes_on(detector: Detector, folder: Path, tmp_path: Path,
                                        monkeypatch: pytest.MonkeyPatch) -> None:
    """Images are detected once, whatever stands at the end of the file: half a line, or that nothing is missing."""
    sources = find_sources([str(folder)])
    process(detector, sources, tmp_path / 'whole', pictures=False)
    lines = (tmp_path / 'whole/detections.jsonl').read_text().splitlines(keepends=True)
    seen: list[int] = []
    detect = detector.detect
    monkeypatch.setattr(detector, 'detect', lambda inputs: seen.append(len(inputs)) or detect(inputs))
    for content, missing in ((lines[:3] + [lines[3][:50]], 3), (lines[:5], 1), (lines, 0), ([], 5),
                             ([lines[0][:9]], 5)):
        out = tmp_path / f'part{missing}'
        out.mkdir(exist_ok=True)
        (out / 'detections.jsonl').write_text(''.join(content))
        seen.clear()
        process(detector, sources, out, pictures=False, resume=True)
        assert sum(seen) == missing
        assert everything(out) == everything(tmp_path / 'whole')
    (tmp_path / 'part0/detections.jsonl').write_text('{"a": 1}\n')
    with pytest.raises(UserError, match='does not begin as a file of detections does'):
        process(detector, sources, tmp_path / 'part0', pictures=False, resume=True)
    (tmp_path / 'part0/detections.jsonl').write_text(lines[0] + '{"a": 1}\n')
    with pytest.raises(UserError, match='line 2 of .*is not a record of detections'):
        process(detector, sources, tmp_path / 'part0', pictures=False, resume=True)


def test_only_the_same_run_is_gone_on_with(detector: Detector, folder: Path, tmp_path: Path,
                                           capsys: pytest.CaptureFixture) -> None:
    """By content: the folder may have moved, been touched and have grown. Another image of the name is refused."""
    out = tmp_path / 'out'

    def again(place: Path, **settings: Any) -> int:
        return process(detector, find_sources([str(place)], out), out, resume=True, **settings).images

    assert again(folder) == 5
    Image.new('RGB', (50, 40)).save(folder / 'new.png')
    moved = folder.rename(tmp_path / 'moved')
    os.utime(moved / '0.png', ns=(5, 5))
    (out / '3.png').unlink()
    (moved / '4.png').rename(moved / '4.jpg')
    with pytest.raises(UserError, match=r'holds detections on 4\.png .*, which is not among the inputs now'):
        again(moved)
    (moved / '4.jpg').rename(moved / '4.png')
    assert again(moved) == 2  # the new one, and the one without a picture
    assert '4 of 6 inputs were done before' in capsys.readouterr().out
    assert sorted(image['file_name'] for image in everything(out)['images']) == [
        '0.png', '1.png', '2.png', '3.png', '4.png', 'new.png']
    for settings, message in (({'score_thr': 0.5}, 'with --score-thr 0.3, not 0.5: run without --resume'),
                              ({'classes': ['one']}, 'with --classes all, not one'),
                              ({'made_by': {'model': 'b.pth'}}, 'with another --model: run without --resume')):
        with pytest.raises(UserError, match=message):
            again(moved, **settings)
    Image.new('RGB', (50, 41)).save(moved / 'new.png')
    with pytest.raises(UserError, match=r'holds detections on another new\.png'):
        again(moved)
    with pytest.raises(UserError, match=r'0\.png .*is not among the inputs'):
        process(detector, find_sources(['0']), out, resume=True)


def test_a_video_that_was_cut_off_is_done_again(detector: Detector, folder: Path, tmp_path: Path,
                                                colored: Callable[..., np.ndarray]) -> None:
    """Its first half would be lost otherwise. What is not whole has no name of its own."""
    video = cv2.VideoWriter(str(folder / 'clip.avi'), cv2.VideoWriter.fourcc(*'MJPG'), 12, (64, 48))
    for index in range(4):
        video.write(colored(index, 48, 64))
    video.release()
    sources, out = find_sources([str(folder)]), tmp_path / 'out'
    process(detector, sources, out)
    whole, path = everything(out), out / 'detections.jsonl'
    lines = path.read_text().splitlines(keepends=True)
    assert [json.loads(line).get('last') for line in lines[6:10]] == [False, False, False, True]
    path.write_text(''.join(lines[:8]))  # two frames
    (out / 'clip.avi.mp4').write_bytes(b'half')
    assert process(detector, sources, out, resume=True).images == 4
    assert everything(out) == whole
    assert cv2.VideoCapture(str(out / 'clip.avi.mp4')).get(cv2.CAP_PROP_FRAME_COUNT) == 4
    assert process(detector, sources, out, resume=True).images == 0
    assert not list(out.rglob('.part-*'))


def test_shards_make_the_files_of_one_run(detector: Detector, folder: Path, tmp_path: Path,
                                          capsys: pytest.CaptureFixture) -> None:
    sources = find_sources([str(folder)])
    process(detector, sources, tmp_path / 'whole', pictures=False)
    for number in (3, 1, 2):
        assert not (tmp_path / 'shards/detections.json').exists()
        process(detector, sources, tmp_path / 'shards', pictures=False, shard=(number, 3))
    process(detector, sources[:-1], tmp_path / 'shards', pictures=False, shard=(2, 3))
    assert 'detections-1-of-3.jsonl, detections-3-of-3.jsonl in ' in capsys.readouterr().out
    process(detector, sources, tmp_path / 'shards', pictures=False, shard=(2, 3))
    whole, shards = (sorted((tmp_path / name / 'detections.csv').read_text().splitlines())
                     for name in ('whole', 'shards'))
    assert whole == shards


def test_two_videos_of_one_stem_stay_two(tmp_path: Path, colored: Callable[..., np.ndarray]) -> None:
    for name in ('clip.avi', 'clip.mov'):
        video = cv2.VideoWriter(str(tmp_path / name), cv2.VideoWriter.fourcc(*'MJPG'), 12, (64, 48))
        video.write(colored(0, 48, 64))
        video.release()
    assert sorted(source.picture for source in find_sources([str(tmp_path)])) == ['clip.avi.mp4', 'clip.mov.mp4']


SOUND = {'path': 'x.jpg', 'frame': None, 'name': 'x.jpg', 'width': 9, 'height': 9, 'boxes': [[1, 2, 3, 4.5]],
         'scores': [0.5], 'labels': [1]}


@pytest.mark.parametrize('change', [
    {'name': '../../x.jpg'}, {'name': '/tmp/x.jpg'}, {'name': 'a/../../x.jpg'}, {'name': ''}, {'name': '..'},
    {'name': 'x\0'}, {'name': 5}, {'path': None}, {'frame': -1}, {'frame': '1'}, {'width': 0}, {'height': 1.5},
    {'boxes': 'abcd'}, {'boxes': [[1, 2, 3]]}, {'boxes': [['1', '2', '3', '4']]}, {'boxes': []}, {'scores': []},
    {'boxes': [[1, 2, 3, 10 ** 400]]}, {'scores': [float('nan')]}, {'scores': [None]}, {'labels': [2]},
    {'labels': [-1]}, {'labels': ['a']}, {'labels': [True]}, {'masks': [1]}, {'masks': ['a', 'b']},
    {'masks': ['o']}, {'masks': ['Q3']}, {'other': 1},
], ids=str)
def test_records_that_are_not_of_a_run(change: dict[str, Any], tmp_path: Path) -> None:
    """Such as a part from elsewhere, whose names would lead out of the output folder."""
    path = tmp_path / 'detections.jsonl'
    path.write_text(json.dumps(SOUND) + '\n' + json.dumps({**SOUND, **change}) + '\n')
    records = read_records([path], classes=2)
    assert next(records).boxes == [[1, 2, 3, 4.5]]
    with pytest.raises(UserError, match=r'line 2 of .*detections\.jsonl is not a record'):
        next(records)


def test_names_as_long_as_a_disk_allows(detector: Detector, folder: Path, tmp_path: Path) -> None:
    """An unfinished picture has a short name; one that needs another type does not fit, and is told."""
    name = 'n' * 251 + '.png'
    (folder / '0.png').rename(folder / name)
    process(detector, find_sources([str(folder / name)]), tmp_path / 'out')
    assert (tmp_path / 'out' / name).is_file()
    Image.new('RGB', (40, 30)).save(folder / ('n' * 251 + '.gif'))
    with pytest.raises(UserError, match=r'cannot write the picture .*: File name too long; run with --no-pictures'):
        process(detector, find_sources([str(folder / ('n' * 251 + '.gif'))]), tmp_path / 'out')
