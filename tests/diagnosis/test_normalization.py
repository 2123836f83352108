"""Mean, deviation and order of the channels: what configs and checkpoints say, and what is measured."""
from __future__ import annotations

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from torch import nn

from sparse_rcnn_mm.config_files import find_config
from sparse_rcnn_mm.diagnosis.measurements import Normalization
from sparse_rcnn_mm.diagnosis.normalization import IMAGENET, _distances, of_config, used_by, wanted_by

PREPROCESSOR = {'mean': IMAGENET.mean, 'std': IMAGENET.std}


def test_configs_fit_the_weights_that_they_name() -> None:
    for name in ('sparse_rcnn_r50_3x', 'sparse_rcnn_r50_finetune', 'adamixer_r50_1x'):
        cfg = Config.fromfile(find_config(name))
        assert used_by(cfg) == IMAGENET
        assert wanted_by(cfg, '')[0] == IMAGENET
        assert wanted_by(cfg, 'sparse_rcnn_r50_3x') == (IMAGENET, 'sparse_rcnn_r50_3x')


@pytest.mark.parametrize(('loader', 'scope', 'flag', 'order'), [
    ('LoadRGBImage', 'sparse_rcnn_mm', {}, 'RGB'),
    ('LoadImageFromFile', 'sparse_rcnn_mm', {}, 'RGB'),
    ('LoadRGBImage', 'sparse_rcnn_mm', {'bgr_to_rgb': True}, 'BGR'),
    ('mmdet.LoadImageFromFile', 'sparse_rcnn_mm', {}, 'BGR'),
    ('LoadImageFromFile', 'mmdet', {'bgr_to_rgb': True}, 'RGB'),
    ('LoadImageFromFile', 'mmdet', {}, 'BGR'),
])
def test_order(loader: str, scope: str, flag: dict[str, bool], order: str) -> None:
    found = of_config({'data_preprocessor': {**PREPROCESSOR, **flag}}, loader, scope)
    assert found is not None and found.order == order


def test_what_a_checkpoint_says(tmp_path: Path) -> None:
    text = ("default_scope = 'mmdet'\nmodel = dict(data_preprocessor=dict(mean=[1, 2, 3], std=[4, 5, 6], "
            "bgr_to_rgb=True))\ntest_dataloader = dict(dataset=dict(pipeline=[dict(type='LoadImageFromFile')]))\n")
    path = str(tmp_path / 'x.pth')
    torch.save({'meta': {'cfg': text}, 'state_dict': {}}, path)
    assert wanted_by(Config(), path) == (Normalization([1., 2., 3.], [4., 5., 6.], 'RGB'), path)


@pytest.mark.parametrize('text', [None, 'x = [', 'model = dict()\n', "model = 'x'\n"])
def test_a_checkpoint_that_does_not_say(text: str | None, tmp_path: Path) -> None:
    path = str(tmp_path / 'x.pth')
    torch.save({'meta': {'cfg': text}, 'state_dict': {}}, path)
    assert wanted_by(Config(), path) == (None, path)


def test_the_first_batch_norm_knows_what_it_was_trained_with() -> None:
    """Its statistics are of reddish images; the same pixels in another order or scale are far from them."""
    torch.manual_seed(0)
    backbone = nn.Sequential(nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16, momentum=None))
    raw = torch.rand(3, 40, 40) * torch.tensor([200., 60., 20.])[:, None, None]
    mean, std = (torch.tensor(values)[:, None, None] for values in (IMAGENET.mean, IMAGENET.std))
    image = (raw - mean) / std
    assert _distances(backbone, [image], [(40, 40)], IMAGENET) == {}  # nothing was trained
    with torch.no_grad():
        backbone(image[None])
    found = _distances(backbone, [image], [(40, 40)], IMAGENET)
    assert found['as configured'] == pytest.approx(0, abs=1e-2)
    assert found['ImageNet'] == pytest.approx(found['as configured'])
    assert found['channels swapped'] > 1 and found['0 to 1'] > 1
    swapped = (raw.flip(0) - mean) / std
    turned = _distances(backbone, [swapped], [(40, 40)], IMAGENET)
    assert turned['channels swapped'] == pytest.approx(0, abs=1e-2) and turned['as configured'] > 1
