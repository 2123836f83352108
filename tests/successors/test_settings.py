"""The numbers of the configs beside those of the authors' files, which each config's docstring names."""
from __future__ import annotations

from typing import Any

import pytest
import torch
from mmengine.config import Config

from sparse_rcnn_mm.registry import MODELS
from tests.kit import CONFIGS

EPOCH = 7_330  # steps of 16 images: 117,266 of COCO's images have objects
ADAMIXER: dict[str, Any] = {
    'optim_wrapper.optimizer.type': 'AdamW', 'optim_wrapper.optimizer.lr': 2.5e-5,
    'optim_wrapper.optimizer.weight_decay': 1e-4, 'optim_wrapper.clip_grad.max_norm': 1.,
    'param_scheduler.0.start_factor': 0.001, 'param_scheduler.0.end': 501, 'param_scheduler.1.gamma': 0.1,
    'auto_scale_lr.base_batch_size': 16, 'train_dataloader.batch_size': 2,
    'train_dataloader.dataset.filter_cfg.filter_empty_gt': True,
    'model.backbone.frozen_stages': 1, 'model.backbone.norm_cfg.requires_grad': True, 'model.backbone.norm_eval': True,
    'model.neck.kernel_size': 1, 'model.neck.act_cfg': None, 'model.roi_head.num_stages': 6,
    'model.roi_head.bbox_head.groups': 4, 'model.roi_head.bbox_head.in_points': 32,
    'model.roi_head.bbox_head.out_points': 128, 'model.roi_head.bbox_head.num_heads': 8,
    'model.roi_head.bbox_head.feedforward_channels': 2048, 'model.roi_head.bbox_head.num_cls_fcs': 1,
    'model.roi_head.bbox_head.num_reg_fcs': 1, 'model.roi_head.roi_extractor.strides': [4, 8, 16, 32],
    'model.criterion.loss_cls.loss_weight': 2., 'model.criterion.loss_bbox.loss_weight': 5.,
    'model.criterion.loss_iou.loss_weight': 2., 'model.criterion.normalizer': 'num_matched'}
ADAMIXER_1X = {**ADAMIXER, 'train_cfg.max_iters': 12 * EPOCH, 'param_scheduler.1.milestones': [8 * EPOCH, 11 * EPOCH],
               'model.rpn_head.num_proposals': 100, 'train_dataloader.dataset.pipeline.3.short_sides': 800}
ADAMIXER_3X = {**ADAMIXER, 'train_cfg.max_iters': 36 * EPOCH, 'param_scheduler.1.milestones': [24 * EPOCH, 33 * EPOCH],
               'model.rpn_head.num_proposals': 300, 'train_dataloader.dataset.pipeline.3.type': 'RandomApply'}
DDQ: dict[str, Any] = {
    **{key: ADAMIXER[key] for key in ADAMIXER if key.startswith(('model.backbone', 'train_dataloader', 'auto_scale'))},
    'optim_wrapper.optimizer.lr': 1e-4, 'optim_wrapper.optimizer.weight_decay': 0.05,
    'model.neck.add_extra_convs': 'on_input', 'model.neck.num_outs': 6,
    'model.rpn_head.strides': [8, 16, 32, 64, 128], 'model.rpn_head.start_level': 1,
    'model.rpn_head.num_candidates': 1000, 'model.rpn_head.iou_threshold': 0.7, 'model.rpn_head.norm_groups': 32,
    'model.roi_head.num_stages': 2, 'model.roi_head.roi_extractor.strides': [4, 8, 16, 32, 64, 128],
    'model.criterion.parts.ddq.assigner.matches': 1, 'model.criterion.parts.ddq_aux.assigner.matches': 8,
    'model.criterion.parts.ddq_aux.predictions': 'auxiliary',
    **{f'model.criterion.parts.{part}.{key}': value for part in ('ddq', 'ddq_aux') for key, value in (
        ('loss_iou.loss_weight', 2.), ('loss_cls.beta', 2.), ('assigner.match_costs.0.weight', 2.),
        ('assigner.match_costs.1.weight', 5.), ('assigner.match_costs.2.weight', 2.))},
    'model.criterion.parts.stages.normalizer': 'num_matched', 'model.criterion.parts.stages.loss_bbox.loss_weight': 5.}
DDQ_3X = {**DDQ, 'train_cfg.max_iters': 36 * EPOCH, 'param_scheduler.1.milestones': [27 * EPOCH, 33 * EPOCH],
          'param_scheduler.0.start_factor': 1e-4, 'param_scheduler.0.end': 2001, 'optim_wrapper.clip_grad.max_norm': 10,
          'train_dataloader.dataset.pipeline.3.type': 'RandomApply'}
SQR = {'model.roi_head.type': 'RecollectingRoIHead', 'model.roi_head.recollect': 2}
SETTINGS: dict[str, dict[str, Any]] = {
    'adamixer_r50_1x': ADAMIXER_1X,
    'adamixer_r50_300pro_3x': ADAMIXER_3X,
    'adamixer_r101_300pro_3x': {**ADAMIXER_3X, 'model.backbone.depth': 101},
    'ddq_rcnn_r50_1x': {
        **DDQ, 'train_cfg.max_iters': 12 * EPOCH, 'param_scheduler.1.milestones': [8 * EPOCH, 11 * EPOCH],
        'param_scheduler.0.start_factor': 0.001, 'param_scheduler.0.end': 501, 'optim_wrapper.clip_grad': None,
        'train_dataloader.dataset.pipeline.3.short_sides': 800, 'model.rpn_head.num_proposals': 300,
        'model.postprocessor.max_per_img': 300},
    'ddq_rcnn_r50_3x': {**DDQ_3X, 'model.rpn_head.num_proposals': 300},
    'ddq_rcnn_r50_crowdhuman': {
        **DDQ_3X, 'model.rpn_head.num_proposals': 500, 'model.rpn_head.num_classes': 1,
        'model.roi_head.bbox_head.num_classes': 1, 'model.postprocessor.max_per_img': 500,
        **{f'{part}_evaluator.{key}': value for part in ('val', 'test') for key, value in (
            ('type', 'CrowdHumanMetric'), ('ann_file', 'data/crowdhuman/annotations/val.json'))},
        **{f'{part}_dataloader.dataset.metainfo.classes': ('person',) for part in ('train', 'val', 'test')}},
    'sqr_sparse_rcnn_r50_1x': {**SQR, 'train_cfg.max_iters': 90_000, 'model.rpn_head.num_proposals': 100},
    'sqr_adamixer_r50_1x': {**ADAMIXER_1X, **SQR},
}
MILLIONS = {'adamixer_r50_1x': 134.79, 'adamixer_r50_300pro_3x': 134.84, 'adamixer_r101_300pro_3x': 153.83,
            'ddq_rcnn_r50_1x': 63.91, 'ddq_rcnn_r50_3x': 63.91, 'ddq_rcnn_r50_crowdhuman': 63.50,
            'sqr_sparse_rcnn_r50_1x': 106.29, 'sqr_adamixer_r50_1x': 134.79}


def value_at(config: Any, path: str) -> Any:
    for key in path.split('.'):
        config = config[int(key)] if key.isdigit() else config[key]
    return config


@pytest.mark.parametrize('name', SETTINGS)
def test_every_number_is_the_authors(name: str) -> None:
    config = Config.fromfile(CONFIGS / f'{name}.py')
    wrong = {path: value_at(config, path) for path, value in SETTINGS[name].items() if value_at(config, path) != value}
    assert not wrong


@pytest.mark.parametrize('name', SETTINGS)
def test_sizes_are_those_of_the_table(name: str) -> None:
    config = Config.fromfile(CONFIGS / f'{name}.py').model
    config.backbone.init_cfg = None
    with torch.device('meta'):
        total = sum(parameter.numel() for parameter in MODELS.build(config).parameters())
    assert total / 1e6 == pytest.approx(MILLIONS[name], abs=0.01)
    table = (CONFIGS.parent / 'docs' / 'family.md').read_text().splitlines()
    assert any(f'`{name}`' in line and f'{total / 1e6:.1f} M' in line for line in table)
