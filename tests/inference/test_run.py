"""Whole runs: what is written, what is skipped, and that no more than a few images are in memory."""
from __future__ import annotations

import csv
import importlib.util
import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from sparse_rcnn_mm.errors import UserError
from sparse_rcnn_mm.inference import Detector
from sparse_rcnn_mm.inference.run import ahead, in_order, process
from sparse_rcnn_mm.inference.sources import find_sources

TOOL = Path(__file__).resolve().parents[2] / 'tools' / 'infer.py'


def infer(*arguments: Any) -> int:
    """Run tools/infer.py in this process; its exit status."""
    spec = importlib.util.spec_from_file_location('infer_tool', TOOL)
    assert spec and spec.loader
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    return tool.main([str(argument) for argument in arguments])


def test_files_hold_what_the_detector_found(detector: Detector, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / 'out'
    report = process(detector, find_sources([str(folder)]), out, score_thr=0.2, batch_size=2)
    coco = COCO(str(out / 'detections.json'))
    assert report.images == len(coco.imgs) == 5 and report.detections == len(coco.anns) > 5 and not report.skipped
    assert [category['name'] for category in coco.loadCats(coco.getCatIds())] == list(detector.classes)
    assert coco.getCatIds() == [7, 17, 27, 37, 47, 57, 67, 77, 87, 97]  # as they were in the training data
    rows = list(csv.DictReader((out / 'detections.csv').open()))
    for image in coco.imgs.values():
        assert (image['height'], image['width']) == (200, 260)
        expected = detector(image['path']).keep(0.2)
        anns = coco.imgToAnns[image['id']]
        boxes = np.array([ann['bbox'] for ann in anns])
        boxes[:, 2:] += boxes[:, :2]
        np.testing.assert_allclose(boxes, expected.boxes, atol=0.03)
        np.testing.assert_allclose([ann['score'] for ann in anns], expected.scores, atol=2e-5)
        assert [detector.classes[ann['category_id'] // 10] for ann in anns] == list(expected.names)
        mine = [row for row in rows if row['image'] == image['file_name']]
        assert [row['class'] for row in mine] == list(expected.names)
        np.testing.assert_allclose([float(row['x2']) for row in mine], expected.boxes[:, 2], atol=0.08)
        assert Image.open(out / Path(image['file_name']).name).size == (520, 400)  # enlarged, to be readable
    assert len(rows) == report.detections


def test_a_corrupt_image_is_skipped_told_and_changes_the_exit_status(
        checkpoint: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [folder, '--model', checkpoint, '--out-dir', tmp_path / 'out', '--device', 'cpu', '--score-thr', 0]
    assert infer(*arguments) == 0
    content = (folder / '2.png').read_bytes()
    (folder / '2.png').write_bytes(content[:len(content) // 2])
    assert infer(*arguments) == 1
    captured = capsys.readouterr()
    assert captured.err.count('skipped') == 1 and str(folder / '2.png') in captured.err
    assert '4 images' in captured.out and '1 skipped' in captured.out
    written = json.loads((tmp_path / 'out' / 'detections.json').read_text())
    assert [Path(image['file_name']).name for image in written['images']] == ['0.png', '1.png', '3.png', '4.png']


def test_only_chosen_classes_and_no_pictures(checkpoint: Path, folder: Path, tmp_path: Path) -> None:
    common = [folder, '--model', checkpoint, '--out-dir', tmp_path / 'out', '--score-thr', 0, '--no-pictures']
    assert infer(*common) == 0
    names = {row['class'] for row in csv.DictReader((tmp_path / 'out' / 'detections.csv').open())}
    chosen = sorted(names)[0]
    assert len(names) > 1 and infer(*common, '--classes', chosen) == 0
    assert {row['class'] for row in csv.DictReader((tmp_path / 'out' / 'detections.csv').open())} == {chosen}
    assert sorted(path.name for path in (tmp_path / 'out').iterdir()) == [
        'detections.csv', 'detections.json', 'detections.jsonl', 'written_by_sparse_rcnn_mm.txt']
    with pytest.raises(UserError, match='--classes zebra.*: the model knows zero, one'):
        infer(*common, '--classes', 'zebra')
    with pytest.raises(UserError, match='--batch-size 0'):
        infer(*common, '--batch-size', 0)


def test_pictures_are_not_written_over_their_inputs(detector: Detector, folder: Path,
                                                    monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    before = {path: path.read_bytes() for path in folder.rglob('*') if path.is_file()}
    for inputs in (['0.png'], [str(folder / '*.png')], ['../' + folder.name + '/1.png']):
        with pytest.raises(UserError, match='would be written over .*: choose another --out-dir'):
            process(detector, find_sources(inputs, Path('.')), Path('.'))
    assert {path: path.read_bytes() for path in folder.rglob('*') if path.is_file()} == before
    process(detector, find_sources(['0.png']), Path('.'), pictures=False)
    assert {path: path.read_bytes() for path in before} == before


def test_a_file_that_cannot_be_written_at_the_end_is_told(detector: Detector, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / 'out'
    (out / 'detections.csv').mkdir(parents=True)
    with pytest.raises(UserError, match='detections.csv: .*the detections are in .*: run it again with --resume'):
        process(detector, find_sources([str(folder / '0.png')]), out)
    (out / 'detections.csv').rmdir()
    process(detector, find_sources([str(folder / '0.png')]), out, resume=True)
    assert (out / 'detections.csv').is_file()


def test_settings_of_the_model_are_part_of_a_run(checkpoint: Path, folder: Path, tmp_path: Path) -> None:
    common = [folder / '0.png', '--model', checkpoint, '--out-dir', tmp_path / 'out', '--no-pictures']
    infer(*common)
    for more in (['--tta'], ['--precision', 'bf16']):
        with pytest.raises(UserError, match=f'was written with another {more[0]}: run without --resume'):
            infer(*common, '--resume', *more)


@pytest.mark.parametrize('score', ['30', 'nan', '-1', 'inf', 'x'])
def test_no_score(checkpoint: Path, folder: Path, score: str, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit):
        infer(folder, '--model', checkpoint, f'--score-thr={score}')
    assert '--score-thr' in capsys.readouterr().err


def test_a_place_that_cannot_be_written_is_told(detector: Detector, folder: Path) -> None:
    with pytest.raises(UserError, match='cannot write to'):
        process(detector, find_sources([str(folder)]), folder / '0.png')


def test_a_video_becomes_a_video(detector: Detector, tmp_path: Path, colored: Callable[..., np.ndarray]) -> None:
    source = cv2.VideoWriter(str(tmp_path / 'clip.avi'), cv2.VideoWriter.fourcc(*'MJPG'), 12, (501, 487))
    for index in range(6):
        source.write(colored(index, 487, 501))
    source.release()
    report = process(detector, find_sources([str(tmp_path / 'clip.avi')]), tmp_path / 'out', score_thr=0)
    video = cv2.VideoCapture(str(tmp_path / 'out' / 'clip.avi.mp4'))
    assert report.images == 6 and video.get(cv2.CAP_PROP_FRAME_COUNT) == 6 and video.get(cv2.CAP_PROP_FPS) == 12
    shown, frame = video.read()
    assert shown and frame.shape[0] in (486, 487, 488) and frame.shape[1] in (500, 501, 502)
    images = json.loads((tmp_path / 'out' / 'detections.json').read_text())['images']
    assert [image['frame'] for image in images] == list(range(6))


def test_an_interrupt_leaves_complete_files(detector: Detector, folder: Path, tmp_path: Path,
                                            monkeypatch: pytest.MonkeyPatch) -> None:
    detect, calls = detector.detect, []

    def interrupted(inputs: Any) -> Any:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return detect(inputs)

    monkeypatch.setattr(detector, 'detect', interrupted)
    assert process(detector, find_sources([str(folder)]), tmp_path / 'out').images == 2
    assert len(json.loads((tmp_path / 'out' / 'detections.json').read_text())['images']) == 2


def test_threads_keep_order_and_stay_a_bounded_number_ahead() -> None:
    produced, lead = [0], []

    def numbers() -> Iterator[int]:
        for number in range(60):
            produced[0] += 1
            yield number

    def slow(number: int) -> int:
        time.sleep(0.004 if number % 3 else 0.012)
        return number * number

    for count, square in enumerate(in_order(slow, ahead(numbers(), 4), 3, 5)):
        assert square == count * count
        lead.append(produced[0] - count)
    assert count == 59 and max(lead) <= 4 + 5 + 3


def test_errors_of_threads_arrive_and_no_thread_stays() -> None:
    before = threading.active_count()
    with pytest.raises(ZeroDivisionError):
        list(in_order(lambda number: 1 // number, ahead(iter([2, 1, 0, 3]), 2), 2, 2))
    with pytest.raises(RuntimeError, match='no more'):
        list(ahead(_failing(), 3))
    assert threading.active_count() == before


def _failing() -> Iterator[int]:
    yield 1
    raise RuntimeError('no more')
