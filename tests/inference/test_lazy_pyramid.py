"""Convolving a level only where boxes look changes no number that they read."""
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from sparse_rcnn_mm.inference import lazy_pyramid
from sparse_rcnn_mm.inference.lazy_pyramid import LazyExtractor
from sparse_rcnn_mm.models import RoIExtractor
from sparse_rcnn_mm.models.roi_extractor import Pyramid


def levels(batch: int = 2):
    """Levels of odd sizes, their convolutions in float64, and the extractor's settings."""
    torch.manual_seed(0)
    sizes = ((45, 37), (23, 19), (1, 2))
    feats = [torch.randn(batch, 6, height, width, dtype=torch.float64) for height, width in sizes]
    convs = [nn.Conv2d(6, 6, 3).double().requires_grad_(False) for _ in feats]
    return feats, convs, dict(strides=(4, 8, 16), finest_scale=12)


@pytest.mark.parametrize('worth_tiles', [0, 400, 5000])  # all levels in tiles, the finest two, none
def test_reads_what_the_whole_convolution_gives(worth_tiles, monkeypatch) -> None:
    monkeypatch.setattr(lazy_pyramid, 'WORTH_TILES', worth_tiles)
    feats, convs, settings = levels()
    whole = Pyramid([conv(F.pad(feat, (1, 1, 1, 1))) for conv, feat in zip(convs, feats, strict=True)],
                    RoIExtractor(**settings))
    lazy = LazyExtractor(convs, **settings)(feats)
    for _ in range(5):  # as stages do: tiles of the earlier boxes are there already
        centre, size = torch.rand(2, 30, 2) * 220 - 30, (torch.rand(2, 30, 2) * 6).exp()
        boxes = torch.cat([centre - size / 2, centre + size / 2], dim=-1).double()
        boxes[0, 0] = boxes[0, 0, [2, 3, 0, 1]]  # of negative size
        boxes[0, 1] = torch.tensor([-500., -500., -490., -490.])  # outside
        boxes[1, 0] = torch.tensor([0., 0., 148., 180.])  # the whole image
        torch.testing.assert_close(lazy.roi_feats(boxes), whole.roi_feats(boxes), rtol=0, atol=1e-12)
    chosen, images = boxes[:, 4].clone(), torch.tensor([1, 0])
    torch.testing.assert_close(lazy.roi_feats(chosen, images), whole.roi_feats(chosen, images), rtol=0, atol=1e-12)


def test_computes_only_the_tiles_that_are_read(monkeypatch) -> None:
    monkeypatch.setattr(lazy_pyramid, 'WORTH_TILES', 0)
    feats, convs, settings = levels()
    lazy = LazyExtractor(convs, **settings)(feats)
    # Samples between cells 3.93 and 7.07: corners in the cells 3 to 8, tiles 0 to 2 of four cells each.
    lazy.roi_feats(torch.tensor([[[17.5, 17.5, 30.5, 30.5]], [[17.5, 17.5, 30.5, 30.5]]], dtype=torch.float64))
    done = [lazy.lazy[index].done for index in range(3)]
    assert done[0][:, :3, :3].all() and done[0].sum() == 2 * 9
    assert not done[1].any() and not done[2].any()
