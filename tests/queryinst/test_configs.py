"""The configs beside those that mmdet ships, and the digits through all tools."""
from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import mmdet
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope

from sparse_rcnn_mm.registry import MODELS
from tests.kit import CONFIGS
from tests.kit.through_tools import train_and_resume, use_everywhere

SHIPPED = Path(mmdet.__file__).parent / '.mim' / 'configs' / 'queryinst'
EPOCH = 7_330  # iterations
NAMES = {
    'queryinst_r50_1x': 'queryinst_r50_fpn_1x_coco',
    'queryinst_r50_3x': 'queryinst_r50_fpn_ms-480-800-3x_coco',
    'queryinst_r50_300pro_3x': 'queryinst_r50_fpn_300-proposals_crop-ms-480-800-3x_coco',
    'queryinst_r101_3x': 'queryinst_r101_fpn_ms-480-800-3x_coco',
    'queryinst_r101_300pro_3x': 'queryinst_r101_fpn_300-proposals_crop-ms-480-800-3x_coco',
}


@pytest.mark.parametrize('name', NAMES)
def test_hyper_parameters_are_mmdets(name: str) -> None:
    ours, theirs = Config.fromfile(CONFIGS / f'{name}.py'), Config.fromfile(SHIPPED / f'{NAMES[name]}.py')
    model, shipped = ours.model, theirs.model
    box, mask = model.roi_head.bbox_head, model.roi_head.mask_head
    their_box, their_mask = shipped.roi_head.bbox_head[0], shipped.roi_head.mask_head[0]
    pairs = [
        (model.backbone.depth, shipped.backbone.depth), (model.backbone.frozen_stages, shipped.backbone.frozen_stages),
        (model.backbone.norm_cfg.requires_grad, shipped.backbone.norm_cfg.requires_grad),
        (model.backbone.norm_eval, shipped.backbone.norm_eval),
        (model.rpn_head.num_proposals, shipped.rpn_head.num_proposals),
        (model.rpn_head.num_proposals, shipped.test_cfg.rcnn.max_per_img),
        (model.roi_head.num_stages, shipped.roi_head.num_stages),
        (model.roi_head.mask_roi_extractor.output_size, shipped.roi_head.mask_roi_extractor.roi_layer.output_size),
        (2 * model.roi_head.mask_roi_extractor.output_size, shipped.train_cfg.rcnn[0].mask_size),
        (box.feedforward_channels, their_box.feedforward_channels), (box.num_heads, their_box.num_heads),
        (mask.num_convs, their_mask.num_convs), (mask.feat_channels, their_mask.dynamic_conv_cfg.feat_channels),
        (model.criterion.loss_mask.loss_weight, their_mask.loss_mask.loss_weight),
        (model.criterion.loss_mask.eps, their_mask.loss_mask.eps),
        (model.criterion.loss_cls.loss_weight, their_box.loss_cls.loss_weight),
        (ours.optim_wrapper.optimizer.lr, theirs.optim_wrapper.optimizer.lr),
        (ours.optim_wrapper.optimizer.weight_decay, theirs.optim_wrapper.optimizer.weight_decay),
        (ours.optim_wrapper.paramwise_cfg, theirs.optim_wrapper.paramwise_cfg),
        (ours.optim_wrapper.clip_grad, theirs.optim_wrapper.clip_grad),
        (ours.param_scheduler[0].start_factor, theirs.param_scheduler[0].start_factor),
        (ours.param_scheduler[0].end, theirs.param_scheduler[0].end + 1),  # mmengine ends one iteration early
        (ours.param_scheduler[1].milestones, [EPOCH * epoch for epoch in theirs.param_scheduler[1].milestones]),
        (ours.train_cfg.max_iters, EPOCH * theirs.train_cfg.max_epochs),
        (ours.train_dataloader.dataset.filter_cfg, theirs.train_dataloader.dataset.filter_cfg),
        (ours.val_evaluator.metric, theirs.val_evaluator.metric),
        (ours.test_evaluator.metric, theirs.test_evaluator.metric)]
    assert [pair for pair in pairs if pair[0] != pair[1]] == []


@pytest.mark.parametrize('name', NAMES)
def test_augmentation_is_mmdets(name: str) -> None:
    ours, theirs = (Config.fromfile(path).train_dataloader.dataset.pipeline
                    for path in (CONFIGS / f'{name}.py', SHIPPED / f'{NAMES[name]}.py'))

    def sides(steps: list, kind: str) -> list:
        return [step for step in steps if step.type == kind]

    (resize,) = sides(ours, 'ResizeShortSide')
    crop = sides(theirs, 'RandomChoice')
    resizes = sides(theirs, 'Resize') + sides(theirs, 'RandomChoiceResize')
    scales = crop[0].transforms[0][0].scales if crop else resizes[0].get('scales') or [resizes[0].scale[::-1]]
    short_sides = [resize.short_sides] if isinstance(resize.short_sides, int) else list(resize.short_sides)
    assert [tuple(scale) for scale in scales] == [(side, resize.max_long_side) for side in short_sides]
    assert len(sides(ours, 'RandomApply')) == len(crop)
    assert 'LoadMasks' in [step.type for step in ours]


def test_mmdets_checkpoint_of_r50_loads_strictly() -> None:
    """Names and shapes of mmdet's R50 with 100 queries: what its published checkpoints hold."""
    with torch.device('meta'):
        ours = MODELS.build(Config.fromfile(CONFIGS / 'queryinst_r50_1x.py').model).state_dict()
        with DefaultScope.overwrite_default_scope('mmdet'):
            theirs = mmdet.registry.MODELS.build(Config.fromfile(SHIPPED / f'{NAMES["queryinst_r50_1x"]}.py').model)
    assert {name: value.shape for name, value in ours.items()} == {
        name: value.shape for name, value in theirs.state_dict().items()}


@pytest.mark.slow
def test_train_resume_test_infer_and_pictures(tool: Callable[..., int], small: list[str], digits: Path, tmp_path: Path,
                                              capsys: pytest.CaptureFixture) -> None:
    config = str(CONFIGS / 'queryinst_r18_digits.py')
    train_and_resume(config, tool, small, tmp_path)
    image = digits / 'val' / '000001.jpg'
    written, found = use_everywhere(Path('whole/iter_4.pth'), image, tmp_path, tool, capsys)
    assert sorted(written) == pytest.approx(sorted(found), abs=1e-3)
