"""The digits: reproducible, scans of train and val apart, boxes tight, and nothing written over."""
from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import sparse_rcnn_mm.datasets.make_digits as maker
from sparse_rcnn_mm.datasets import DigitsDataset
from sparse_rcnn_mm.errors import UserError


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Thirty images in place of 1,200."""
    monkeypatch.setattr(maker, 'SPLITS', {'train': 25, 'val': 5})


def _digest(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(folder.rglob('*')) if path.is_file()}


def test_the_same_seed_gives_the_same_bytes(few: None, tmp_path: Path) -> None:
    for name, seed in (('a', 3), ('b', 3), ('c', 4)):
        assert maker.make_digits(tmp_path / name, seed)
    first, again, other = (_digest(tmp_path / name) for name in 'abc')
    assert first == again
    assert first.keys() == other.keys()
    assert all(first[name] != other[name] for name in first)


def test_a_second_run_does_nothing_unless_something_is_missing(few: None, tmp_path: Path) -> None:
    maker.make_digits(tmp_path)
    before = _digest(tmp_path)
    stamps = {path: path.stat().st_mtime_ns for path in tmp_path.rglob('*')}
    assert not maker.make_digits(tmp_path)
    assert stamps == {path: path.stat().st_mtime_ns for path in tmp_path.rglob('*')}
    (tmp_path / 'val/000003.jpg').unlink()
    assert maker.make_digits(tmp_path)
    assert _digest(tmp_path) == before
    assert maker.make_digits(tmp_path, seed=1)
    assert _digest(tmp_path) != before


@pytest.mark.parametrize('content', ['{"images": []}', 'my notes', '[]'])
def test_a_file_of_other_origin_is_not_written_over(few: None, tmp_path: Path, content: str) -> None:
    (tmp_path / 'val.json').write_text(content)
    with pytest.raises(UserError, match=r'val\.json exists and was not made by this tool'):
        maker.make_digits(tmp_path)
    assert (tmp_path / 'val.json').read_text() == content
    assert list(tmp_path.iterdir()) == [tmp_path / 'val.json']


def test_missing_scikit_learn_says_what_to_install(few: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, 'sklearn.datasets', None)
    with pytest.raises(UserError, match='pip install scikit-learn'):
        maker.make_digits(tmp_path)


def test_train_and_val_share_no_scan(few: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[list[bytes]] = []
    draw = maker.draw_image

    def watch(scans: list[maker.Scan], rng: np.random.RandomState) -> tuple:
        used.append([scan.tobytes() for _, scan in scans])
        return draw(scans, rng)

    monkeypatch.setattr(maker, 'draw_image', watch)
    maker.make_digits(tmp_path)
    train, val = set(used[0]), set(used[-1])
    assert len(used) == 30
    assert not train & val
    assert (len(used[0]), len(used[-1])) == (1497, 300)


def test_the_full_set_has_the_promised_sizes(tmp_path_factory: pytest.TempPathFactory) -> None:
    """1,000 and 200 images; 1-6 digits each; boxes 28-90 px, inside, hardly overlapping; all digits occur."""
    scans, rng = maker._load_scans(), np.random.RandomState(5)
    assert maker.SPLITS == {'train': 1000, 'val': 200}
    placed = [maker.draw_image(scans, rng)[1] for _ in range(300)]
    assert {len(digits) for digits in placed} == {1, 2, 3, 4, 5, 6}
    assert {digit for digits in placed for digit, _, _ in digits} == set(range(10))
    for digits in placed:
        boxes = [digit.box for digit in digits]
        for index, (x, y, width, height) in enumerate(boxes):
            assert 28 <= max(width, height) <= 90
            assert x >= 0 and y >= 0 and x + width <= 192 and y + height <= 192
            assert all(maker.covered(boxes[index], other) <= 0.1 for other in boxes[:index])
    sides = [max(digit.box[2:]) for digits in placed for digit in digits]
    assert min(sides) < 32 and max(sides) > 86


def test_covered_part_by_hand() -> None:
    assert maker.covered((0, 0, 10, 10), (5, 5, 20, 20)) == 0.25
    assert maker.covered((0, 0, 40, 10), (30, 0, 10, 5)) == 1
    assert maker.covered((0, 0, 10, 10), (10, 0, 5, 5)) == 0


def test_boxes_are_tight() -> None:
    """Each edge of a box has ink at least half opaque, and just outside of the box nothing was painted."""
    scans = maker._load_scans()
    for index in range(0, len(scans), 37):
        for side in (28, 55, 90):
            opacity = maker.enlarge(scans[index][1], side)
            assert max(opacity.shape) == side
            for edge in (opacity[0], opacity[-1], opacity[:, 0], opacity[:, -1]):
                assert edge.max() > 0.4


def test_a_digit_changes_the_pixels_of_its_box_only(monkeypatch: pytest.MonkeyPatch) -> None:
    scans = maker._load_scans()[:100]
    monkeypatch.setattr(maker, 'DIGITS_PER_IMAGE', (1, 1))
    with_digit, ((_, (x, y, width, height), _),) = maker.draw_image(scans, np.random.RandomState(1))
    monkeypatch.setattr(maker, 'DIGITS_PER_IMAGE', (0, 0))
    without, nothing = maker.draw_image(scans, np.random.RandomState(1))
    assert nothing == []
    rows, columns = np.nonzero((with_digit != without).any(2))
    assert (columns.min(), rows.min()) == (x, y)
    assert (columns.max() + 1, rows.max() + 1) == (x + width, y + height)


def test_masks_are_the_ink_that_is_seen() -> None:
    scans, rng = maker._load_scans(), np.random.RandomState(9)
    for _ in range(40):
        image, digits = maker.draw_image(scans, rng)
        together = np.sum([digit.ink for digit in digits], axis=0)
        assert together.max() == 1
        # Ink is at most 100 bright and the paper about 150 at least, so that what is half covered is nearer to ink.
        assert image.max(2)[together > 0].mean() < 110 < image.min(2)[together == 0].mean()
        x, y, width, height = digits[-1].box
        rows, columns = np.nonzero(digits[-1].ink)
        extent = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        assert np.abs(np.subtract(extent, [x, y, x + width, y + height])).max() <= 1


def test_masks_draw_no_random_number() -> None:
    """Images, and what was measured on them, are those from before there were masks: the number was the same then."""
    scans, rng = maker._load_scans(), np.random.RandomState(3)
    for _ in range(10):
        maker.draw_image(scans, rng)
    assert rng.randint(10**9) == 739605062


def test_the_data_set_reads_what_the_maker_writes(few: None, tmp_path: Path) -> None:
    maker.make_digits(tmp_path)
    dataset = DigitsDataset(data_root=str(tmp_path), ann_file='val.json', data_prefix={'img': 'val'}, test_mode=True)
    coco = json.loads((tmp_path / 'val.json').read_text())
    assert len(dataset) == 5
    assert dataset.cat_ids == list(range(10))
    assert sum(len(dataset.get_data_info(index)['instances']) for index in range(5)) == len(coco['annotations'])
    assert min(annotation['id'] for annotation in coco['annotations']) == 1  # pycocotools takes 0 for "no match"
    with Image.open(dataset.get_data_info(0)['img_path']) as image:
        assert image.size == (192, 192)
    assert len(set(map(tuple, dataset.metainfo['palette']))) == 10
