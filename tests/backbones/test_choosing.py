"""Another backbone by one option: it trains and predicts, and is mmdet's class with its authors' numbers."""
from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Any

import mmdet
import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope

from sparse_rcnn_mm.acceleration.prediction import fast_form
from sparse_rcnn_mm.backbones import set_backbone
from sparse_rcnn_mm.backbones.known import KNOWN
from sparse_rcnn_mm.checkpoints.official import check_complete
from sparse_rcnn_mm.engine import load_config
from sparse_rcnn_mm.errors import UserError
from sparse_rcnn_mm.registry import MODELS, without_values
from tests.kit import CONFIGS
from tests.kit.timm import timm_or_skip
from tests.models.samples import rectangles

OF_TIMM = ['convnext_atto', 'pvt_v2_b2_li', 'timm/resnet18']
FAST = {'resnet18', 'pvt_v2_b0', 'mobilenet_v2', 'convnext_atto'}
# The rest of the model, made small.
SMALL = {'model.backbone.init_cfg': None, 'model.neck.out_channels': 16, 'model.rpn_head.num_proposals': 8,
         'model.rpn_head.proposal_feature_channel': 16, 'model.roi_head.num_stages': 2,
         'model.roi_head.bbox_head.in_channels': 16, 'model.roi_head.bbox_head.num_heads': 2,
         'model.roi_head.bbox_head.feedforward_channels': 16, 'model.roi_head.bbox_head.dynamic_conv.feat_channels': 4}
SHIPPED = Path(mmdet.__file__).parent / '.mim/configs'
# mmdet's config of each backbone that it has one for
OF_MMDET = {
    **{f'pvt_v2_b{size}': f'pvt/retinanet_pvtv2-b{size}_fpn_1x_coco.py' for size in range(6)},
    'swin_t': 'swin/mask-rcnn_swin-t-p4-w7_fpn_1x_coco.py',
    'swin_s': 'swin/mask-rcnn_swin-s-p4-w7_fpn_amp-ms-crop-3x_coco.py',
    'resnet50': 'faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py',
    'resnet101': 'faster_rcnn/faster-rcnn_r101_fpn_1x_coco.py'}


def config(backbone: str, base: str = 'sparse_rcnn_r50_3x', **more: Any) -> Config:
    """What the command line gives with `--cfg-options backbone=NAME ...`."""
    return load_config(argparse.Namespace(config=str(CONFIGS / f'{base}.py'), work_dir=None, launcher='none',
                                          cfg_options={**more, 'backbone': backbone}))


def build(part: Any) -> Any:
    with DefaultScope.overwrite_default_scope('sparse_rcnn_mm'):
        return MODELS.build(part)


@pytest.mark.parametrize('name', [name if name in FAST else pytest.param(name, marks=pytest.mark.slow)
                                  for name in (*KNOWN, *OF_TIMM)])
def test_it_trains_and_predicts(name: str) -> None:
    if name in OF_TIMM:
        timm_or_skip()
    cfg = config(name, **SMALL)
    torch.manual_seed(0)
    model = build(cfg.model)
    model.init_weights()
    model.train()
    optimizer = build_optim_wrapper(model, cfg.optim_wrapper)
    before = {key: value.clone() for key, value in model.backbone.state_dict().items()}
    for _ in range(2):
        losses = model.train_step(rectangles(), optimizer)
        assert all(loss.isfinite() for loss in losses.values())
    trained = [key for key, value in model.backbone.state_dict().items() if not torch.equal(value, before[key])]
    assert trained
    model.eval()
    images = model.data_preprocessor(rectangles())['inputs']
    with torch.no_grad():
        logits, boxes = model(images)[-1]
        assert logits.isfinite().all() and boxes.isfinite().all()
        for one, plain in zip(fast_form(model)(images)[-1], (logits, boxes), strict=True):
            torch.testing.assert_close(one, plain, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize('name', [*KNOWN, *OF_TIMM])
def test_checkpoints_are_compared_without_memory_for_the_weights(name: str) -> None:
    if name in OF_TIMM:
        timm_or_skip()
    cfg = config(name, **SMALL)
    with without_values():
        state = build(cfg.model).state_dict()
    assert all(value.is_meta for value in state.values())
    with DefaultScope.overwrite_default_scope('sparse_rcnn_mm'):
        check_complete(state, cfg)
        key = next(key for key in state if key.startswith('backbone.') and state[key].dim() > 1)
        state[key] = state[key][:-1]
        with pytest.raises(UserError, match=rf'the checkpoint is not complete: (?s:.*){re.escape(key)}'):
            check_complete(state, cfg)


@pytest.mark.parametrize('name', KNOWN)
def test_channels_and_strides_are_told_right(name: str) -> None:
    cfg = config(name)
    with without_values():
        backbone = build({**cfg.model.backbone, 'init_cfg': None})
        backbone.eval()
        maps = backbone(torch.zeros(1, 3, 64, 96))
    assert [tuple(one.shape[1:]) for one in maps] == [
        (channels, 64 // stride, 96 // stride) for channels, stride in
        zip(cfg.model.neck.in_channels, (4, 8, 16, 32), strict=True)]


@pytest.mark.parametrize('name', OF_MMDET)
def test_features_are_those_of_mmdets_own_config(name: str) -> None:
    theirs = Config.fromfile(SHIPPED / OF_MMDET[name]).model
    torch.manual_seed(0)
    ours = build({**config(name).model.backbone, 'init_cfg': None})
    other = build({**theirs.backbone, 'type': f'mmdet.{theirs.backbone.type}', 'init_cfg': None})
    other.load_state_dict(ours.state_dict())  # strictly: the same names and shapes
    for backbone in (ours, other):
        backbone.eval()
    image = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        found, wanted = ours(image), other(image)
    for one, the_other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, the_other, atol=0, rtol=0)
    assert config(name).model.neck.in_channels == theirs.neck.in_channels == [one.shape[1] for one in found]
    assert [(64 // one.shape[2], 96 // one.shape[3]) for one in found] == [(side, side) for side in (4, 8, 16, 32)]


@pytest.mark.parametrize(('name', 'leaf'), [('pvt_v2_b2', 'sparse_rcnn_pvtv2_b2_300pro_3x'),
                                            ('swin_t', 'sparse_rcnn_swin_t_300pro_3x'),
                                            ('resnet101', 'sparse_rcnn_r101_3x')])
def test_configs_and_names_agree(name: str, leaf: str) -> None:
    written = Config.fromfile(CONFIGS / f'{leaf}.py').model
    chosen = config(name).model
    assert {'out_indices': (0, 1, 2, 3), **written.backbone} == chosen.backbone
    assert written.neck == chosen.neck


def test_levels_stay_those_of_the_config() -> None:
    """The digits have no level of stride 4, and options beside the name change what was chosen."""
    cfg = config('mobilenet_v2', 'sparse_rcnn_r18_digits', **{'model.backbone.frozen_stages': -1})
    assert cfg.model.backbone.out_indices == (2, 4, 6) and cfg.model.neck.in_channels == [32, 96, 320]
    assert cfg.model.backbone.frozen_stages == -1
    set_backbone(cfg, 'resnet50')
    assert cfg.model.backbone.out_indices == (1, 2, 3) and cfg.model.neck.in_channels == [512, 1024, 2048]


def test_authors_settings() -> None:
    detco = Config.fromfile(CONFIGS / 'sparse_rcnn_r50_300pro_3x_detco.py')
    backbone = detco.model.backbone
    assert (backbone.frozen_stages, backbone.norm_eval, backbone.norm_cfg) == (
        -1, False, {'type': 'SyncBN', 'requires_grad': True})
    assert (detco.model.rpn_head.num_proposals, detco.train_cfg.max_iters) == (300, 270_000)
    pvt = Config.fromfile(CONFIGS / 'sparse_rcnn_pvtv2_b2_300pro_3x.py')
    assert pvt.optim_wrapper.optimizer.lr == pytest.approx(2.5e-5 / 1.4)
    assert (pvt.train_dataloader.batch_size, pvt.auto_scale_lr.base_batch_size) == (1, 8)
    steps = 8 * pvt.train_cfg.max_iters / 36
    assert 117_266 <= steps < 117_266 + 8
    swin = Config.fromfile(CONFIGS / 'sparse_rcnn_swin_t_300pro_3x.py').optim_wrapper
    assert (swin.optimizer.lr, swin.optimizer.weight_decay) == (1e-4, 0.05)


@pytest.mark.parametrize('name', ['resnet_18', 'timm/nothing', 'pvt'])
def test_a_name_that_nobody_has_is_one_sentence(name: str) -> None:
    with pytest.raises(UserError, match=r'backbone|package timm'):
        config(name)
