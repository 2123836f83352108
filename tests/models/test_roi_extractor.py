"""The weighted gather against a plain loop, on functions that are known, and on boxes that break things."""
import math

import numpy as np
import pytest
import torch
from mmcv.ops import RoIAlign
from mmcv.utils.ext_loader import check_ops_exist
from torch import Tensor

from sparse_rcnn_mm.errors import UserError
from sparse_rcnn_mm.models import RoIExtractor

from .samples import random_boxes


def random_feats(batch: int, channels: int, height: int, width: int, strides: tuple[int, ...] = (4, 8, 16, 32),
                 dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """Levels of an image of height x width."""
    return [torch.randn(batch, channels, math.ceil(height / s), math.ceil(width / s), dtype=dtype) for s in strides]


def ramps(height: int, width: int, strides: tuple[int, ...] = (4, 8, 16, 32)) -> list[Tensor]:
    """Levels whose two channels are the x and the y, in pixels of the image, of each cell's centre."""
    feats = []
    for s in strides:
        y, x = ((torch.arange(math.ceil(size / s)) + 0.5) * s for size in (height, width))
        y, x = torch.meshgrid(y, x, indexing='ij')
        feats.append(torch.stack([x, y])[None].double())
    return feats


def bilinear(feat: np.ndarray, y: float, x: float) -> np.ndarray:
    """The value (C,) of a map (C, H, W) between its cell centres; 0 from one cell outside on."""
    _, height, width = feat.shape
    if not (-1 <= y <= height and -1 <= x <= width):
        return np.zeros(len(feat))
    y, x = min(max(y, 0), height - 1), min(max(x, 0), width - 1)
    top, left = int(y), int(x)
    bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
    dy, dx = y - top, x - left
    return ((1 - dy) * (1 - dx) * feat[:, top, left] + (1 - dy) * dx * feat[:, top, right]
            + dy * (1 - dx) * feat[:, bottom, left] + dy * dx * feat[:, bottom, right])


def level_by_rule(box: list[float], num_levels: int, finest_scale: int = 56) -> int:
    """Boxes below 2 * finest_scale are level 0; every doubling is one more."""
    size = math.sqrt(max((box[2] - box[0]) * (box[3] - box[1]), 0))
    return sum(size >= finest_scale * 2**(level + 1) for level in range(num_levels - 1))


def roi_align(feats: list[Tensor], box: list[float], image: int, strides: tuple[int, ...], bins: int = 7,
              ratio: int = 2) -> np.ndarray:
    """(bins, bins, C), by loops over bins and samples (Mask R-CNN, arXiv 1703.06870; pixel shift as in detectron2)."""
    level = level_by_rule(box, len(strides))
    feat = feats[level][image].double().numpy()
    x1, y1, x2, y2 = (value / strides[level] - 0.5 for value in box)
    out = np.zeros((bins, bins, len(feat)))
    for row, column in np.ndindex(bins, bins):
        for i, j in np.ndindex(ratio, ratio):
            y = y1 + (row + (i + 0.5) / ratio) * (y2 - y1) / bins
            x = x1 + (column + (j + 0.5) / ratio) * (x2 - x1) / bins
            out[row, column] += bilinear(feat, y, x) / ratio**2
    return out


IMAGE = (203, 331)  # height and width; not square and no multiple of any stride
BOXES = {
    'inside': [20., 30., 90., 70.],
    'level 1': [40., 20., 210., 190.],
    'level 2': [10., -60., 320., 240.],
    'level 3': [-400., -300., 700., 600.],
    'tiny': [100.2, 50.7, 100.9, 51.1],
    'a point': [77., 77., 77., 77.],
    'a line': [20., 30., 220., 30.],
    'whole image': [0., 0., 331., 203.],
    'over the left and the top edge': [-35., -20., 40., 30.],
    'over the right and the bottom edge': [300., 180., 370., 260.],
    'outside by far': [-900., -900., -850., -850.],
    'just outside': [335., 100., 339., 110.],
    'one cell outside': [-4., -4., -2., -2.],
    'far larger than the image': [-5000., -4000., 6000., 5000.],
    'last pixels': [329., 201., 331., 203.],
}


@pytest.mark.parametrize('box', BOXES.values(), ids=BOXES.keys())
@pytest.mark.parametrize('strides', [(4, 8, 16, 32), (8, 16, 32)], ids=['4 levels', '3 levels'])
def test_equals_a_plain_loop(box: list[float], strides: tuple[int, ...]) -> None:
    feats = random_feats(2, 3, *IMAGE, strides)
    pooled = RoIExtractor(strides=strides)(feats).roi_feats(torch.tensor(box).expand(2, 1, 4))
    for image in range(2):
        expected = torch.from_numpy(roi_align(feats, box, image, strides)).flatten(0, 1).float()
        torch.testing.assert_close(pooled[image], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(('bins', 'ratio'), [(1, 1), (3, 4), (14, 2)])
def test_other_numbers_of_bins_and_samples_equal_the_loop(bins: int, ratio: int) -> None:
    feats = random_feats(1, 2, *IMAGE)
    extractor = RoIExtractor(output_size=bins, sampling_ratio=ratio)
    pooled = extractor(feats).roi_feats(torch.tensor([[BOXES['level 1']]]))
    expected = torch.from_numpy(roi_align(feats, BOXES['level 1'], 0, extractor.strides, bins, ratio)).flatten(0, 1)
    torch.testing.assert_close(pooled[0], expected.float(), rtol=1e-4, atol=1e-4)


def test_equals_the_compiled_operation_where_mmcv_has_it() -> None:
    if not check_ops_exist():
        pytest.skip('mmcv was installed without compiled ops')
    feats = random_feats(2, 8, *IMAGE)
    boxes = random_boxes(2, 30, width=331, height=203)
    extractor = RoIExtractor()
    level = extractor.levels(boxes).flatten()
    rois = torch.cat([torch.arange(2.).repeat_interleave(30)[:, None], boxes.flatten(0, 1)], dim=1)
    pooled = extractor(feats).roi_feats(boxes)
    assert set(level.tolist()) >= {0, 1}
    for index, stride in enumerate(extractor.strides):
        expected = RoIAlign(7, 1 / stride, 2, aligned=True)(feats[index], rois[level == index])
        torch.testing.assert_close(pooled[level == index], expected.flatten(2).transpose(1, 2), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('box', [[40., 30., 100., 90.], [30., 25., 200., 180.], [20., 20., 270., 240.],
                                 [33.3, 40.1, 130.7, 95.9]])
def test_linear_ramps_give_the_centres_of_the_bins(box: list[float]) -> None:
    """Interpolation is exact on what is linear, so the mean of a bin's samples is the value at its centre."""
    pooled = RoIExtractor()(ramps(320, 480)).roi_feats(torch.tensor([[box]], dtype=torch.float64))
    step = (torch.arange(7, dtype=torch.float64) + 0.5) / 7
    x = box[0] + (box[2] - box[0]) * step
    y = box[1] + (box[3] - box[1]) * step
    torch.testing.assert_close(pooled.view(7, 7, 2), torch.stack([x.expand(7, 7), y[:, None].expand(7, 7)], -1))


def test_a_constant_comes_back_wherever_the_samples_are_inside() -> None:
    feats = [torch.full((1, 1, math.ceil(203 / s), math.ceil(331 / s)), 3.) for s in (4, 8, 16, 32)]
    pooled = RoIExtractor()(feats).roi_feats(random_boxes(1, 200, width=331, height=203))
    torch.testing.assert_close(pooled, torch.full_like(pooled, 3.))


def test_gradient_with_respect_to_the_features() -> None:
    strides = (4, 8)
    feats = random_feats(2, 2, 24, 40, strides, torch.float64)
    boxes = torch.tensor([[[3., 2., 30., 20.], [-4., 5., 8., 40.]], [[0., 0., 40., 24.], [9., 9., 9.5, 9.5]]]).double()
    extractor = RoIExtractor(strides=strides, output_size=2, finest_scale=10)
    assert extractor.levels(boxes).unique().tolist() == [0, 1]
    inputs = tuple(feat.requires_grad_() for feat in feats)
    assert torch.autograd.gradcheck(lambda *f: extractor(f).roi_feats(boxes), inputs)


def test_no_gradient_reaches_the_boxes() -> None:
    boxes = random_boxes(1, 4).requires_grad_()
    feats = [feat.requires_grad_() for feat in random_feats(1, 2, 80, 100)]
    RoIExtractor()(feats).roi_feats(boxes).sum().backward()
    assert boxes.grad is None and feats[0].grad.abs().sum() > 0


def test_images_by_index_equal_boxes_by_image() -> None:
    pyramid = RoIExtractor()(random_feats(3, 4, *IMAGE))
    boxes = random_boxes(3, 5, width=331, height=203)
    by_image = pyramid.roi_feats(boxes).view(3, 5, 49, 4)
    images = torch.tensor([2, 0, 0, 1, 2, 1, 1])
    which = torch.tensor([4, 0, 3, 1, 1, 2, 2])
    by_index = pyramid.roi_feats(boxes[images, which], images)
    torch.testing.assert_close(by_index, by_image[images, which], rtol=0, atol=0)


def test_images_do_not_mix() -> None:
    feats = random_feats(2, 3, *IMAGE)
    boxes = torch.tensor(list(BOXES.values())).expand(2, -1, 4)
    together = RoIExtractor()(feats).roi_feats(boxes)
    for image in range(2):
        alone = RoIExtractor()([feat[image:image + 1] for feat in feats]).roi_feats(boxes[:1])
        torch.testing.assert_close(together.view(2, -1, 49, 3)[image], alone, rtol=0, atol=0)


@pytest.mark.parametrize(('size', 'level'), [
    (1., 0), (111.9, 0), (112., 1), (223.9, 1), (224., 2), (447.9, 2), (448., 3), (895.9, 3), (896., 3), (1e5, 3)])
def test_sizes_of_the_levels(size: float, level: int) -> None:
    wide = [0., 0., 2 * size, size / 2]
    assert RoIExtractor().levels(torch.tensor([[5., 5., 5. + size, 5. + size], wide])).tolist() == [level, level]


def test_levels_follow_finest_scale_and_the_number_of_strides() -> None:
    boxes = torch.tensor([[0., 0., size, size] for size in (55., 56., 111., 112., 900.)])
    assert RoIExtractor(strides=(8, 16, 32), finest_scale=28).levels(boxes).tolist() == [0, 1, 1, 2, 2]
    assert RoIExtractor(strides=(16,)).levels(boxes).tolist() == [0] * 5


NAN, INF = math.nan, math.inf
BROKEN = [[10., 10., 5., 5.], [10., 10., 5., 50.], [0., 0., 0., 0.], [-INF, -INF, INF, INF], [0., 0., INF, INF],
          [INF, INF, INF, INF], [NAN, NAN, NAN, NAN], [0., NAN, 9., 9.], [0., 0., 1e30, 1e30], [1e30, 0., 2e30, 5.],
          [-3e38, -3e38, 3e38, 3e38]]


@pytest.mark.parametrize('box', BROKEN, ids=str)
def test_broken_boxes_give_finite_features_and_stay_in_their_image(box: list[float]) -> None:
    """embedding_bag refuses indices out of range; NaN in the other image would betray a wrong one within."""
    feats = random_feats(3, 2, *IMAGE)
    for feat in feats:
        feat[[0, 2]] = NAN
    pooled = RoIExtractor()(feats).roi_feats(torch.tensor([box]), torch.tensor([1]))
    assert pooled.shape == (1, 49, 2)
    # A weight that is NaN can only come from a position that is.
    assert pooled.isfinite().all()


def test_no_boxes() -> None:
    feats = [feat.requires_grad_() for feat in random_feats(2, 4, *IMAGE)]
    pooled = RoIExtractor()(feats).roi_feats(torch.zeros(2, 0, 4))
    assert pooled.shape == (0, 49, 4)
    pooled.sum().backward()
    assert all((feat.grad == 0).all() for feat in feats)


def test_bfloat16_features_are_weighted_close_to_float32() -> None:
    feats = random_feats(1, 4, *IMAGE)
    boxes = random_boxes(1, 20, width=331, height=203)
    half = RoIExtractor()([feat.bfloat16() for feat in feats]).roi_feats(boxes)
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), RoIExtractor()(feats).roi_feats(boxes), rtol=0.02, atol=0.04)


def test_a_neck_with_other_levels_is_named() -> None:
    with pytest.raises(UserError, match=r'the neck gives 3 levels, but roi_extractor\.strides names 4'):
        RoIExtractor()(random_feats(1, 2, 64, 64, (8, 16, 32)))
