"""Inputs as a user names them."""
from __future__ import annotations

import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from sparse_rcnn_mm.datasets.image_files import digest, image_size
from sparse_rcnn_mm.datasets.read_image import read_image
from sparse_rcnn_mm.datasets.transforms import LoadRGBImage
from sparse_rcnn_mm.errors import UserError
from sparse_rcnn_mm.inference.sources import find_sources, frames_of
from sparse_rcnn_mm.own_outputs import mark
from sparse_rcnn_mm.runtime.preprocessing import read_rgb
from tests.kit import ROOT


@pytest.fixture
def tree(folder: Path) -> Path:
    """The five images, one more in a subfolder with a name that is taken, and files that are no input."""
    (folder / 'sub').mkdir()
    Image.open(folder / '0.png').save(folder / 'sub' / '0.png')
    for name in ('notes.txt', '.hidden.png', 'labels.json'):
        (folder / name).write_text('x')
    return folder


def write_video(path: Path, images: list[np.ndarray], fps: float = 10) -> None:
    height, width = images[0].shape[:2]
    video = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*'MJPG'), fps, (width, height))
    for image in images:
        video.write(image[..., ::-1])
    video.release()


def test_folders_patterns_and_files_name_each_image_once(tree: Path) -> None:
    everything = ['0.png', '1.png', '2.png', '3.png', '4.png', 'sub/0.png']
    assert [source.name for source in find_sources([str(tree)])] == everything
    assert [source.name for source in find_sources([f'{tree}/[12].*'])] == ['1.png', '2.png']
    assert [source.name for source in find_sources([f'{tree}/**/0.png'])] == ['0.png', 'sub/0.png']
    assert [source.name for source in find_sources([f'{tree}/3.png', str(tree), f'{tree}/*'])] == [
        '3.png', '0.png', '1.png', '2.png', '4.png', 'sub/0.png']


def test_names_in_the_current_folder(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tree)
    assert [source.name for source in find_sources(['1.png', './2.png', 'sub/0.png'])] == [
        '1.png', '2.png', 'sub/0.png']
    assert [source.name for source in find_sources(['1.png', '2.png'])] == ['1.png', '2.png']
    assert [source.name for source in find_sources(['[12].*'])] == ['1.png', '2.png']
    assert [source.name for source in find_sources(['.'])][:2] == ['0.png', '1.png']


def test_earlier_results_inside_the_folder_are_no_input(tree: Path) -> None:
    assert len(find_sources([str(tree)], tree / 'sub')) == 5


def test_inputs_as_users_have_them(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """Two videos of one stem, a linked folder, odd pictures: each once under its own name, the others named."""
    with zipfile.ZipFile(ROOT / 'tests/data/cases.zip') as archive:
        archive.extractall(tmp_path, [name for name in archive.namelist() if name.startswith('infer_in')])
    folder = tmp_path / 'infer_in'
    (folder / 'day2').symlink_to(tmp_path / 'infer_in_linked')
    (folder / 'again').symlink_to(folder)
    mark(folder / 'results')
    Image.new('RGB', (5, 5)).save(folder / 'results/plain.JPG')
    sources = find_sources([str(folder), str(tmp_path / 'infer_in_linked')])
    assert [source.picture for source in sources] == [
        'a.bmp.jpg', 'a.webp.jpg', 'alpha.png', 'anim.gif.jpg', 'clip.avi.mp4', 'clip.mp4', 'cmyk.jpg', 'photo.jpe.jpg',
        'plain.JPG', 'thin.png', 'wrongext.jpg', 'zero.jpg', 'day2/0.jpg', 'day2/1.jpg']
    assert capsys.readouterr().out.splitlines() == [
        'not read: day1, notes.txt (neither images nor videos)',
        'not read: again (links to one of its own parent folders)',
        'not read: results (written by sparse_rcnn_mm)']


def test_an_input_that_names_nothing_is_told(tree: Path) -> None:
    (tree / 'empty').mkdir()
    for text in (f'{tree}/gone.jpg', f'{tree}/*.jpg', f'{tree}/empty'):
        with pytest.raises(UserError, match='names no image'):
            find_sources([f'{tree}/0.png', text])


def test_a_number_is_a_camera_unless_there_is_such_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_sources(['0'])[0].kind == 'camera'
    Path('0').write_text('')
    assert find_sources(['0'])[0].kind == 'image'


def test_video_frames_come_in_order_and_in_rgb(tmp_path: Path) -> None:
    images = [np.full((48, 64, 3), (40 * index, 128, 250), np.uint8) for index in range(5)]
    write_video(tmp_path / 'clip.avi', images)
    (source,) = find_sources([str(tmp_path / 'clip.avi')])
    assert (source.kind, source.length, source.fps, source.name) == ('video', 5, 10, 'clip.avi')
    frames = list(frames_of([source]))
    assert [frame.last for frame in frames] == [False, False, False, False, True]
    assert [frame.index for frame in frames] == [0, 1, 2, 3, 4]
    for frame, image in zip(frames, images, strict=True):
        assert frame.image is not None
        np.testing.assert_allclose(frame.image.mean((0, 1)), image[0, 0], atol=6)  # JPEG inside


def test_a_broken_or_cut_video_is_an_error_after_its_frames(tmp_path: Path, colored: Callable[..., np.ndarray]) -> None:
    write_video(tmp_path / 'clip.avi', [colored(index) for index in range(40)])
    content = (tmp_path / 'clip.avi').read_bytes()
    (tmp_path / 'clip.avi').write_bytes(content[:len(content) // 2])
    (tmp_path / 'text.mp4').write_text('no video')
    frames = list(frames_of(find_sources([str(tmp_path)])))
    assert [bool(frame.error) for frame in frames] == [False] * (len(frames) - 2) + [True, True]
    assert 10 < len(frames) < 30
    assert 'broke off after' in str(frames[-2].error) and 'text.mp4' in str(frames[-1].error)


@pytest.mark.timeout(20)
def test_broken_links_and_pipes_are_not_read(folder: Path, capsys: pytest.CaptureFixture) -> None:
    """By name, and where a pattern finds them."""
    (folder / 'gone.png').symlink_to('nowhere')
    os.mkfifo(folder / 'pipe.png')
    found = find_sources([str(folder / '*.png')])
    assert [source.name for source in found] == [f'{index}.png' for index in range(5)]
    assert f'not read: {folder}/gone.png, {folder}/pipe.png (broken links' in capsys.readouterr().out
    for name in ('gone.png', 'pipe.png'):
        with pytest.raises(UserError, match=f'{name} names no image'):
            find_sources([str(folder / name)])
    for read in (read_image, read_rgb, lambda path: LoadRGBImage().transform({'img_path': str(path)})):
        with pytest.raises(UserError, match='not a regular file'):
            read(folder / 'pipe.png')
    assert image_size(str(folder / 'pipe.png')).fault == 'cannot be decoded (it is not a regular file)'
    assert digest(folder / 'pipe.png') == ''
