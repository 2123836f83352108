"""Pictures of every kind: the same pixels for training, testing and inference, and what each kind comes out as."""
from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from sparse_rcnn_mm.datasets import LoadRGBImage, decoding
from sparse_rcnn_mm.datasets.image_files import SUFFIXES, image_size, is_image
from sparse_rcnn_mm.datasets.read_image import read_image
from sparse_rcnn_mm.errors import UserError
from sparse_rcnn_mm.inference import sources
from sparse_rcnn_mm.runtime.preprocessing import read_rgb


@pytest.fixture(autouse=True)
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was said, from a clean start."""
    messages: list[str] = []
    monkeypatch.setattr(decoding, '_said', set())

    monkeypatch.setattr(decoding, 'warn', messages.append)
    return messages


def _noise(height: int = 20, width: int = 30) -> Image.Image:
    return Image.fromarray(np.random.RandomState(0).randint(0, 256, (height, width, 3), dtype=np.uint8))


def _load(path: Path) -> np.ndarray:
    """As training, testing and inference load it; all are the same."""
    loaded = LoadRGBImage()({'img_path': str(path)})['img']
    np.testing.assert_array_equal(read_image(path), loaded)
    with Image.open(path) as image:
        np.testing.assert_array_equal(read_image(image), loaded)
    assert image_size(str(path))[:2] == image_size(str(path), decode=True)[:2] == loaded.shape[1::-1]
    assert loaded.dtype == np.uint8 and loaded.flags.writeable
    return loaded


@pytest.mark.parametrize(('mode', 'suffix'), [
    ('RGB', '.jpg'), ('L', '.jpg'), ('CMYK', '.jpg'), ('RGB', '.jfif'), ('RGBA', '.png'), ('LA', '.png'), ('P', '.png'),
    ('1', '.png'), ('L', '.png'), ('P', '.gif'), ('RGB', '.webp'), ('RGBA', '.webp'), ('RGB', '.bmp'),
    ('CMYK', '.tif'), ('LAB', '.tiff'), ('YCbCr', '.tif'), ('RGB', '.ppm'), ('L', '.pgm')])
def test_eight_bits_are_those_of_pillow(tmp_path: Path, mode: str, suffix: str, said: list[str]) -> None:
    path = tmp_path / f'x{suffix}'
    image = Image.frombytes('LAB', (30, 20), _noise().tobytes()) if mode == 'LAB' else _noise().convert(mode)
    image.save(path, 'JPEG' if suffix == '.jfif' else None)
    with Image.open(path) as image:
        np.testing.assert_array_equal(_load(path), np.array(image.convert('RGB')))
    assert not said and is_image(path)


def test_alpha_is_dropped_and_colours_stay(tmp_path: Path) -> None:
    Image.new('RGBA', (3, 2), (200, 100, 50, 0)).save(tmp_path / 'x.png')
    assert (_load(tmp_path / 'x.png') == [200, 100, 50]).all()


@pytest.mark.parametrize('orientation', range(1, 9))
@pytest.mark.parametrize('suffix', ['.jpg', '.png', '.tif', '.webp'])
def test_every_exif_orientation(tmp_path: Path, orientation: int, suffix: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    _noise().save(tmp_path / f'x{suffix}', exif=exif)
    with Image.open(tmp_path / f'x{suffix}') as image:
        expected = np.array(ImageOps.exif_transpose(image).convert('RGB'))
    np.testing.assert_array_equal(_load(tmp_path / f'x{suffix}'), expected)
    assert expected.shape == ((20, 30, 3) if orientation < 5 else (30, 20, 3))


def _with_exif(path: Path, exif: bytes) -> Path:
    _noise().save(path, exif=b'Exif\0\0' + exif)
    return path


def _orientation_entry(kind: int, count: int, value: bytes) -> bytes:
    """A TIFF directory with one entry: tag 0x0112 of a type other than SHORT."""
    return b'II*\0' + struct.pack('<IHHHI', 8, 1, 0x0112, kind, count) + value + bytes(4)


@pytest.mark.parametrize('exif', [
    _orientation_entry(2, 2, b'6\0\0\0'),  # text
    _orientation_entry(3, 1, struct.pack('<I', 77)),  # no orientation
    _orientation_entry(5, 1, struct.pack('<I', 10**6)),  # a fraction that is beyond the end
    b'II*\0\xff\xff\xff\xff', b'XX', b'', b'II*\0' + struct.pack('<IH', 8, 65535)])
def test_odd_exif_leaves_the_picture_as_it_is_stored(tmp_path: Path, exif: bytes) -> None:
    path = _with_exif(tmp_path / 'x.jpg', exif)
    with Image.open(path) as image:
        np.testing.assert_array_equal(_load(path), np.array(image))


@pytest.mark.parametrize('suffix', ['.png', '.tif', '.pgm'])
def test_sixteen_bits_are_scaled_the_same_in_every_picture(tmp_path: Path, suffix: str, said: list[str]) -> None:
    """257 to 1, to the nearest: 0 -> 0, 257 -> 1, 128 -> 0, 129 -> 1, 65535 -> 255, 9000 -> 35.02, 40000 -> 155.6."""
    values = np.array([[0, 257, 128, 129], [65535, 9000, 40000, 65535 - 129]], np.uint16)
    for name in ('first', 'second'):
        Image.fromarray(values).save(tmp_path / (name + suffix))
        loaded = _load(tmp_path / (name + suffix))
        assert loaded[..., 0].tolist() == [[0, 1, 0, 1], [255, 35, 156, 254]]
        assert (loaded == loaded[..., :1]).all()
    assert said == ['16-bit images are scaled to 8 bits by 1/257; the first has values of 0 to 65535 of 65535']


def test_big_endian_sixteen_bits(tmp_path: Path) -> None:
    Image.frombytes('I;16B', (2, 1), np.array([9000, 40000], '>u2').tobytes()).save(tmp_path / 'x.tif')
    assert _load(tmp_path / 'x.tif')[0, :, 0].tolist() == [35, 156]


@pytest.mark.parametrize(('values', 'expected', 'sentence'), [
    (np.array([[0, 100_000, 50_000]], np.int32), [0, 255, 128], 'value range of each; the first has values of 0'),
    (np.array([[-1000, 1000, 0]], np.int32), [0, 255, 128], 'range of each'),
    (np.array([[7, 7, 7]], np.int32), [0, 0, 0], 'range of each'),
    (np.array([[0.25, 1, 0.5]], np.float32), [64, 255, 128], 'values of 0 to 1'),  # 63.75 + 0.5, 127.5 + 0.5
    (np.array([[-2, 2, 0]], np.float32), [0, 255, 128], 'range of each'),
    (np.array([[0, np.nan, 1]], np.float32), [0, 0, 255], 'values of 0 to 1'),
    (np.array([[np.inf, 4, 2]], np.float32), [0, 255, 128], 'range of each')])
def test_thirty_two_bits_and_floating_point(tmp_path: Path, values: np.ndarray, expected: list[int], sentence: str,
                                            said: list[str]) -> None:
    Image.fromarray(values).save(tmp_path / 'x.tif')
    assert _load(tmp_path / 'x.tif')[0, :, 0].tolist() == expected
    assert len(said) == 1 and sentence in said[0]


def test_sixteen_bits_with_orientation(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.array([[257, 514]], np.uint16)).save(tmp_path / 'x.png', exif=exif)
    assert _load(tmp_path / 'x.png')[:, :, 0].tolist() == [[1], [2]]


@pytest.mark.parametrize('suffix', ['.gif', '.tif', '.png', '.webp'])
def test_of_several_frames_the_first_is_used_and_said_once(tmp_path: Path, suffix: str, said: list[str]) -> None:
    frames = [Image.new('RGB', (8, 8), colour) for colour in ('red', 'lime', 'blue')]
    options = {'lossless': True} if suffix == '.webp' else {}
    for name in ('a', 'b'):
        frames[0].save(tmp_path / (name + suffix), save_all=True, append_images=frames[1:], **options)
        assert (_load(tmp_path / (name + suffix)) == [255, 0, 0]).all()
    assert len(said) == 1 and 'files with several frames or pages: only the first is used' in said[0]


def test_large_pictures_up_to_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _noise().save(tmp_path / 'x.png')
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 400)
    assert read_image(tmp_path / 'x.png').shape == (20, 30, 3)
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 200)
    with pytest.raises(UserError, match=r'^image .*x\.png has more than 0 million pixels.*: cut it into tiles$'):
        LoadRGBImage()({'img_path': str(tmp_path / 'x.png')})
    assert 'cut it into tiles' in image_size.__wrapped__(str(tmp_path / 'x.png')).fault


@pytest.mark.parametrize('mode', ['RGB', 'L'])
def test_a_photograph_without_its_middle_is_found(tmp_path: Path, mode: str) -> None:
    """Pillow decodes most of them and says nothing; it costs a second decoding, so only `decode` looks."""
    pytest.importorskip('simplejpeg')
    content = io.BytesIO()
    rows, columns = np.mgrid[:200, :300]
    smooth = np.stack([rows, columns % 256, rows + columns % 50], 2).clip(0, 255).astype(np.uint8)
    Image.fromarray(smooth).convert(mode).save(content, 'JPEG', quality=90)
    whole = content.getvalue()
    (tmp_path / 'whole.jpg').write_bytes(whole)
    assert image_size(str(tmp_path / 'whole.jpg'), decode=True) == (300, 200, '')
    for start, stop in ((.4, .6), (.5, .55), (.3, .9)):
        path = tmp_path / f'{start}.jpg'
        path.write_bytes(whole[:int(len(whole) * start)] + whole[int(len(whole) * stop):])
        assert 'cannot be decoded' in image_size(str(path), decode=True).fault


def test_one_list_of_picture_types() -> None:
    assert sources.IMAGE_SUFFIXES is SUFFIXES
    assert {'.jfif', '.pgm', '.jpeg', '.tif', '.webp'} <= SUFFIXES
    Image.init()
    assert {Image.EXTENSION[suffix] for suffix in SUFFIXES} <= set(Image.OPEN)


def test_postscript_is_never_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An EPS file under the name of a picture. Pillow has Ghostscript run it, if that is installed."""
    path = tmp_path / 'x.png'
    path.write_bytes(b'%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 40 30\n%%EndComments\nshowpage\n%%EOF')
    with Image.open(path) as image:
        assert image.format == 'EPS'
    monkeypatch.setattr('PIL.EpsImagePlugin.Ghostscript', lambda *args, **options: pytest.fail('it was run'))
    for read in (read_image, read_rgb, lambda path: LoadRGBImage().transform({'img_path': str(path)})):
        with pytest.raises(UserError, match=r'x\.png'):
            read(path)
    assert 'cannot identify' in image_size(str(path)).fault
