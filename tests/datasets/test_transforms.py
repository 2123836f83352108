"""The input pipeline against a second implementation on Pillow, and against numbers worked out by hand."""
from __future__ import annotations

import copy
import json
from pathlib import Path

import numpy as np
import pytest
from mmdet.structures.bbox import HorizontalBoxes
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.registry import init_default_scope
from PIL import Image

from sparse_rcnn_mm.datasets.transforms import ClipBoxes, LoadRGBImage, RandomCropRange, ResizeShortSide, resized_shape
from sparse_rcnn_mm.errors import UserError
from tests.kit import ROOT

RACCOONS = ROOT.parent / 'shared/data/raccoon'
CROP_CONFIG = ROOT / 'configs/_base_/datasets/coco_detection_crop.py'
IMAGES = ('landscape.jpg', 'portrait.jpg', 'rotated.jpg', 'grey.jpg', 'alpha.png', 'palette.png', 'long.png')
EXIF_ORIENTATION = 274


@pytest.fixture(scope='module', autouse=True)
def _scope() -> None:
    init_default_scope('sparse_rcnn_mm')


def _pixels(height: int, width: int, channels: int = 3) -> np.ndarray:
    """Gradients with noise on top, so that any shift, smoothing or swapped channel shows."""
    rows, columns = np.mgrid[:height, :width]
    ramps = np.stack([rows * 255 / height, columns * 255 / width, 255 - rows * 255 / height, columns % 256], -1)
    noise = np.random.RandomState(height * width).uniform(-60, 60, (height, width, 4))
    return (ramps + noise).clip(0, 255).astype(np.uint8)[:, :, :channels]


@pytest.fixture(scope='module')
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seven images of odd sizes and all kinds of colour modes."""
    path = tmp_path_factory.mktemp('images')
    Image.fromarray(_pixels(333, 501)).save(path / 'landscape.jpg', quality=95)
    Image.fromarray(_pixels(641, 427)).save(path / 'portrait.jpg', quality=95)
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = 6
    Image.fromarray(_pixels(210, 303)).save(path / 'rotated.jpg', quality=95, exif=exif)
    Image.fromarray(_pixels(480, 480)[:, :, 0]).save(path / 'grey.jpg', quality=95)
    Image.fromarray(_pixels(255, 190, 4)).save(path / 'alpha.png')
    Image.fromarray(_pixels(777, 900)).quantize(64).save(path / 'palette.png')
    Image.fromarray(_pixels(150, 1201)).save(path / 'long.png')
    return path


def _upright(path: Path) -> Image.Image:
    image = Image.open(path)
    turn = {6: Image.Transpose.ROTATE_270, 3: Image.Transpose.ROTATE_180, 8: Image.Transpose.ROTATE_90}
    orientation = image.getexif().get(EXIF_ORIENTATION, 1)
    return (image.transpose(turn[orientation]) if orientation != 1 else image).convert('RGB')


def _window(height: int, width: int) -> tuple[int, int, int, int]:
    """A fixed window for a crop of this image: (top, left, height, width)."""
    return height // 7, width // 5, height // 2 + 3, width // 2 + 8


def _resize(image: Image.Image, boxes: np.ndarray, short: int, limit: float) -> tuple[Image.Image, np.ndarray]:
    """The short side to `short` unless the long side would exceed `limit`; Pillow and float64."""
    width, height = image.size
    ratio = short / min(width, height)
    size = (short if width <= height else width * ratio, short if height <= width else height * ratio)
    if max(size) > limit:
        size = tuple(side * (limit / max(size)) for side in size)
    size = tuple(int(side + 0.5) for side in size)
    factor = np.array([size[0] / width, size[1] / height] * 2)
    return image.resize(size, Image.Resampling.BILINEAR), boxes * factor


def _reference(path: Path, boxes: np.ndarray, flip: bool, crop_short: int | None, short: int) -> tuple:
    """What the official mapper makes of an image and its boxes for these draws, in terms of Pillow alone."""
    image = _upright(path)
    if flip:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        boxes = np.stack([image.width - boxes[:, 2], boxes[:, 1], image.width - boxes[:, 0], boxes[:, 3]], 1)
    if crop_short:
        image, boxes = _resize(image, boxes, crop_short, float('inf'))
        top, left, height, width = _window(image.height, image.width)
        image = image.crop((left, top, left + width, top + height))
        boxes = boxes - [left, top, left, top]
    image, boxes = _resize(image, boxes, short, 1333)
    boxes = boxes.clip(0, [image.width, image.height] * 2)
    kept = (boxes[:, 2:] - boxes[:, :2] > 1e-5).all(1)
    return np.asarray(image), boxes[kept], np.flatnonzero(kept)


def _pipeline(flip: bool, crop_short: int | None, short: int) -> Compose:
    """The training pipeline of the crop config with its draws fixed."""
    steps = copy.deepcopy(Config.fromfile(CROP_CONFIG).train_dataloader.dataset.pipeline)
    by_type = {step.type: step for step in steps}
    by_type['RandomFlip'].prob = float(flip)
    by_type['RandomApply'].prob = float(crop_short is not None)
    by_type['RandomApply'].transforms[0].short_sides = crop_short or 400
    by_type['ResizeShortSide'].short_sides = short
    return Compose(steps)


def _annotated(path: Path, boxes: np.ndarray) -> dict:
    """The data set's dict of one image: box i has the label i."""
    width, height = _upright(path).size
    return {'img_path': str(path), 'img_id': 1, 'width': width, 'height': height,
            'instances': [{'bbox': box.tolist(), 'bbox_label': label, 'ignore_flag': 0}
                          for label, box in enumerate(boxes)]}


def _boxes(path: Path) -> np.ndarray:
    """Boxes of all kinds: inside, beyond the image, in a corner that crops cut away, without area."""
    width, height = _upright(path).size
    part = np.array([[.2, .3, .7, .8], [-.1, .5, 1.2, .9], [0, 0, .05, .05], [.9, .9, 1, 1], [.4, .4, .4, .6]])
    return part * [width, height, width, height]


def _assert_equal(path: Path, boxes: np.ndarray, flip: bool, crop_short: int | None, short: int) -> None:
    packed = _pipeline(flip, crop_short, short)(_annotated(path, boxes))
    image, expected, labels = _reference(path, boxes, flip, crop_short, short)
    np.testing.assert_array_equal(packed['inputs'].permute(1, 2, 0).numpy(), image)
    sample = packed['data_samples']
    assert sample.img_shape == image.shape[:2]
    assert sample.ori_shape == _upright(path).size[::-1]
    assert sample.flip == flip
    np.testing.assert_allclose(sample.gt_instances.bboxes.tensor.numpy(), expected, rtol=0, atol=3e-4)
    np.testing.assert_array_equal(sample.gt_instances.labels.numpy(), labels)


@pytest.mark.parametrize('name', IMAGES)
@pytest.mark.parametrize('short', [480, 672, 800])
def test_flip_and_resize_are_pixel_exact(folder: Path, name: str, short: int) -> None:
    for flip in (False, True):
        _assert_equal(folder / name, _boxes(folder / name), flip, None, short)


@pytest.mark.parametrize('name', IMAGES)
@pytest.mark.parametrize('crop_short', [400, 500, 600])
def test_crop_branch_is_pixel_exact(folder: Path, name: str, crop_short: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RandomCropRange, '_draw', lambda self, height, width: _window(height, width))
    _assert_equal(folder / name, _boxes(folder / name), crop_short == 500, crop_short, 608)


@pytest.mark.parametrize('short', range(480, 801, 32))
def test_every_size_is_pixel_exact(folder: Path, short: int) -> None:
    _assert_equal(folder / 'landscape.jpg', _boxes(folder / 'landscape.jpg'), True, None, short)


def _test_pipeline() -> Compose:
    return Compose(Config.fromfile(CROP_CONFIG).test_dataloader.dataset.pipeline)


@pytest.mark.parametrize('name', IMAGES)
def test_test_time_is_pixel_exact(folder: Path, name: str) -> None:
    packed = _test_pipeline()(_annotated(folder / name, _boxes(folder / name)))
    image, *_ = _reference(folder / name, np.zeros((0, 4)), False, None, 800)
    np.testing.assert_array_equal(packed['inputs'].permute(1, 2, 0).numpy(), image)
    sample = packed['data_samples']
    height, width = sample.ori_shape
    assert sample.scale_factor == (image.shape[1] / width, image.shape[0] / height)
    # ground truth stays on the original image, as pictures and metrics show it there
    np.testing.assert_allclose(sample.gt_instances.bboxes.tensor.numpy(), _boxes(folder / name), rtol=1e-6)


@pytest.mark.skipif(not RACCOONS.exists(), reason='photographs are not part of the repository')
def test_photographs_are_pixel_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RandomCropRange, '_draw', lambda self, height, width: _window(height, width))
    coco = json.loads((RACCOONS / 'train.json').read_text())
    for index, image in enumerate(coco['images'][:10]):
        path = RACCOONS / 'images' / image['file_name']
        boxes = np.array([a['bbox'] for a in coco['annotations'] if a['image_id'] == image['id']])
        boxes[:, 2:] += boxes[:, :2]
        for crop_short in (None, 400 + index % 3 * 100):
            _assert_equal(path, boxes, bool(index % 2), crop_short, 480 + index * 32)
        packed = _test_pipeline()(_annotated(path, boxes))
        expected, *_ = _reference(path, boxes, False, None, 800)
        np.testing.assert_array_equal(packed['inputs'].permute(1, 2, 0).numpy(), expected)


@pytest.mark.parametrize(('size', 'short', 'expected'), [
    ((480, 640), 800, (800, 1067)),  # 640 * 5/3 = 1066.67
    ((640, 480), 800, (1067, 800)),
    ((427, 640), 800, (800, 1199)),  # 640 * 800/427 = 1199.06
    ((400, 1000), 800, (533, 1333)),  # 2000 is capped: 800 * 0.6665 = 533.2
    ((1000, 401), 480, (1197, 480)),  # 1000 * 480/401 = 1197.007
    ((500, 500), 608, (608, 608)),
    ((600, 801), 500, (500, 668)),  # 667.5 rounds up
    ((1, 5000), 800, (1, 1333)),  # 0.27 pixels, yet an image has at least one row
])
def test_sizes_worked_by_hand(size: tuple[int, int], short: int, expected: tuple[int, int]) -> None:
    assert resized_shape(*size, short, 1333) == expected


def test_without_limit_the_long_side_is_free() -> None:
    assert resized_shape(100, 1000, 400) == (400, 4000)


def _results(height: int, width: int, boxes: list[list[float]]) -> dict:
    return {'img': _pixels(height, width), 'img_shape': (height, width), 'gt_bboxes': HorizontalBoxes(boxes),
            'gt_bboxes_labels': np.arange(len(boxes)), 'gt_ignore_flags': np.zeros(len(boxes), bool)}


def test_boxes_follow_each_axis_by_its_own_ratio() -> None:
    """427 x 640 becomes 800 x 1199: the ratios are 800/427 = 1.873536 and 1199/640 = 1.8734375."""
    results = ResizeShortSide(800)(_results(427, 640, [[0, 0, 640, 427], [64, 42.7, 320, 213.5]]))
    assert results['img_shape'] == (800, 1199)
    expected = [[0, 0, 1199, 800], [119.9, 80, 599.5, 400]]
    np.testing.assert_allclose(results['gt_bboxes'].tensor.numpy(), expected, atol=1e-3)


def test_clipping_drops_what_has_no_area_and_keeps_the_rest() -> None:
    boxes = [[-10, -5, 20, 30], [90, 40, 150, 80], [100, 10, 130, 20], [5, 5, 5, 9], [5, 5, 5.001, 9]]
    results = ClipBoxes()(_results(50, 100, boxes))
    expected = [[0, 0, 20, 30], [90, 40, 100, 50], [5, 5, 5.001, 9]]
    np.testing.assert_allclose(results['gt_bboxes'].tensor.numpy(), expected, atol=1e-5)
    assert results['gt_bboxes_labels'].tolist() == [0, 1, 4]
    assert len(results['gt_ignore_flags']) == 3


def test_an_image_whose_boxes_are_all_cropped_away_stays() -> None:
    results = ClipBoxes()(_results(50, 100, [[200, 200, 210, 210]]))
    assert len(results['gt_bboxes']) == 0
    assert results['img'].shape == (50, 100, 3)


def test_crop_draws_like_detectron2() -> None:
    """The same numpy seed gives the same window: height, width, top, left are drawn in this order."""
    for seed, (height, width) in enumerate([(400, 533), (900, 600), (384, 384), (300, 2000), (601, 601)]):
        np.random.seed(seed)
        crop = RandomCropRange(384, 600)._draw(height, width)
        rng = np.random.RandomState(seed)
        crop_height = rng.randint(min(height, 384), min(height, 600) + 1)
        crop_width = rng.randint(min(width, 384), min(width, 600) + 1)
        assert crop == (rng.randint(height - crop_height + 1), rng.randint(width - crop_width + 1),
                        crop_height, crop_width)


def test_crop_cuts_the_drawn_window_and_shifts_boxes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RandomCropRange, '_draw', lambda self, height, width: (10, 20, 30, 40))
    results = RandomCropRange()(_results(100, 120, [[20, 10, 60, 40], [0, 0, 30, 20]]))
    np.testing.assert_array_equal(results['img'], _pixels(100, 120)[10:40, 20:60])
    assert results['gt_bboxes'].tensor.tolist() == [[0, 0, 40, 30], [-20, -10, 10, 10]]
    assert results['img_shape'] == (30, 40)


def test_all_training_branches_are_drawn(folder: Path) -> None:
    """Over 200 draws: flips and crops about half the time, every size, every crop size within its range."""
    np.random.seed(0)
    pipeline = Compose(Config.fromfile(CROP_CONFIG).train_dataloader.dataset.pipeline)
    resizes: list[int] = []
    crops: list[tuple[int, int]] = []
    draw = ResizeShortSide._draw
    cut = RandomCropRange._draw
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ResizeShortSide, '_draw', lambda self: resizes.append(draw(self)) or 32)
        patch.setattr(RandomCropRange, '_draw', lambda self, *shape: crops.append(shape) or cut(self, *shape))
        samples = [pipeline(_annotated(folder / 'alpha.png', np.zeros((0, 4))))['data_samples'] for _ in range(200)]
    assert 70 < sum(sample.flip for sample in samples) < 130
    assert 70 < len(crops) < 130
    assert set(resizes) == {400, 500, 600, *range(480, 801, 32)}


def test_colour_order_is_rgb(tmp_path: Path) -> None:
    Image.new('RGB', (4, 3), (200, 100, 50)).save(tmp_path / 'red.png')
    results = LoadRGBImage()({'img_path': str(tmp_path / 'red.png')})
    assert results['img'].shape == (3, 4, 3)
    assert results['img'][0, 0].tolist() == [200, 100, 50]


def test_missing_image_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r'cannot read image .*gone\.jpg: No such file'):
        LoadRGBImage()({'img_path': str(tmp_path / 'gone.jpg')})


@pytest.mark.parametrize('content', [b'', b'no image at all', 'truncated'])
def test_corrupt_image_is_named(tmp_path: Path, folder: Path, content: bytes | str) -> None:
    path = tmp_path / 'broken.jpg'
    path.write_bytes((folder / 'portrait.jpg').read_bytes()[:9000] if content == 'truncated' else content)
    with pytest.raises(UserError, match=r'image .*broken\.jpg is corrupt'):
        LoadRGBImage()({'img_path': str(path)})


def test_wrong_size_names_both_sizes(folder: Path) -> None:
    with pytest.raises(UserError, match=r'landscape\.jpg is 501 x 333 pixels, .* says 333 x 501'):
        LoadRGBImage()({'img_path': str(folder / 'landscape.jpg'), 'width': 333, 'height': 501})


def test_crop_range_must_be_ordered() -> None:
    with pytest.raises(UserError, match='not 600 and 384'):
        RandomCropRange(600, 384)
