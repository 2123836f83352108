"""Runs that are cut off, shared out and written in other forms."""
from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest

from sparse_rcnn_mm.errors import UserError
from sparse_rcnn_mm.inference import Detector
from sparse_rcnn_mm.inference.formats import FORMATS
from sparse_rcnn_mm.inference.records import Record
from sparse_rcnn_mm.inference.run import process
from sparse_rcnn_mm.inference.sources import find_sources

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
    assert coco['images'][2] == {'id': 3, 'file_name': 'clip.mp4', 'height': 48, 'width': 64, 'frame': 3}
    assert coco['annotations'][0] == {'id': 1, 'image_id': 1, 'category_id': 9, 'bbox': [20, 10, 100, 50], 'area': 5000,
                                      'iscrowd': 0, 'score': 0.75}


def test_a_table_holds_no_formula(tmp_path: Path) -> None:
    rows = list(csv.reader(written('csv', tmp_path).open()))
    assert rows[1] == ['a/one.jpg', '', 'a & b', '0.7500', '20.0', '10.0', '120.0', '60.0']
    assert rows[2][2] == '\'=HYPERLINK("x")'
    assert not any(cell.startswith(('=', '+', '@')) for row in rows for cell in row)


def test_yolo(tmp_path: Path) -> None:
    folder = written('yolo', tmp_path)
    assert (folder / 'one.txt').read_text() == '1 0.350000 0.350000 0.500000 0.500000 0.75000\n'
    assert (folder / 'clip_000003.txt').read_text() == '0 0.500000 0.500000 1.000000 1.000000 0.50000\n'
    assert (folder / 'sub' / '=cmd.txt').read_text() == ''


def test_label_studio(tmp_path: Path) -> None:
    tasks = json.loads(written('label-studio', tmp_path).read_text())
    assert len(tasks) == 2 and tasks[0]['data']['image'].endswith('a/one.jpg')
    (found,) = tasks[0]['predictions'][0]['result']
    assert found['value'] == {'x': 10, 'y': 10, 'width': 50, 'height': 50, 'rotation': 0, 'rectanglelabels': ['a & b']}


def test_cvat(tmp_path: Path) -> None:
    tree = ElementTree.parse(written('cvat', tmp_path)).getroot()
    (box,) = tree.iter('box')
    assert box.attrib['label'] == 'a & b' and [box.attrib[key] for key in ('xtl', 'ytl', 'xbr', 'ybr')] == [
        '20.0', '10.0', '120.0', '60.0']
    assert [image.attrib['name'] for image in tree.iter('image')] == ['one.jpg', '=cmd.png']


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
    for content, missing in ((lines[:2] + [lines[2][:50]], 3), (lines[:4], 1), (lines, 0), ([], 5)):
        out = tmp_path / f'part{missing}'
        out.mkdir()
        (out / 'detections.jsonl').write_text(''.join(content))
        seen.clear()
        process(detector, sources, out, pictures=False, resume=True)
        assert sum(seen) == missing
        assert everything(out) == everything(tmp_path / 'whole')
    (tmp_path / 'part0/detections.jsonl').write_text('{"a": 1}\n')
    with pytest.raises(UserError, match='line 1 of .*is not a record of detections'):
        process(detector, sources, tmp_path / 'part0', pictures=False, resume=True)


def test_shards_make_the_files_of_one_run(detector: Detector, folder: Path, tmp_path: Path) -> None:
    sources = find_sources([str(folder)])
    process(detector, sources, tmp_path / 'whole', pictures=False)
    for number in (3, 1, 2):
        assert not (tmp_path / 'shards/detections.json').exists()
        process(detector, sources, tmp_path / 'shards', pictures=False, shard=(number, 3))
    whole, shards = (sorted((tmp_path / name / 'detections.csv').read_text().splitlines())
                     for name in ('whole', 'shards'))
    assert whole == shards


def test_two_videos_of_one_stem_stay_two(tmp_path: Path, colored: Callable[..., np.ndarray]) -> None:
    for name in ('clip.avi', 'clip.mov'):
        video = cv2.VideoWriter(str(tmp_path / name), cv2.VideoWriter.fourcc(*'MJPG'), 12, (64, 48))
        video.write(colored(0, 48, 64))
        video.release()
    assert sorted(source.name for source in find_sources([str(tmp_path)])) == ['clip.avi.mp4', 'clip.mov.mp4']
