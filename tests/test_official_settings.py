"""Every hyper-parameter of the configs beside the official YAML (PeizeSun/SparseR-CNN at 0e5028d)."""
from __future__ import annotations

from bisect import bisect_right

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import OptimWrapper
from mmengine.registry import init_default_scope

from sparse_rcnn_mm.registry import PARAM_SCHEDULERS
from tests.kit import CONFIGS


def load(name: str) -> Config:
    return Config.fromfile(CONFIGS / f'{name}.py')


def head(cfg: Config):
    return cfg.model.roi_head.bbox_head


def cost(cfg: Config, index: int) -> float:
    return cfg.model.criterion.assigner.match_costs[index].weight


def transform(cfg: Config, name: str):
    return next(t for t in cfg.train_dataloader.dataset.pipeline if t.type == name)


# The key in the official YAML (or the default of detectron2 it leaves in force), its value, and where it stands here.
COMMON = [
    ('SOLVER.IMS_PER_BATCH', 16, lambda c: c.auto_scale_lr.base_batch_size),
    ('SOLVER.IMS_PER_BATCH over 8 GPUs', 2, lambda c: c.train_dataloader.batch_size),
    ('SOLVER.BASE_LR', 2.5e-5, lambda c: c.optim_wrapper.optimizer.lr),
    ('SOLVER.OPTIMIZER', 'AdamW', lambda c: c.optim_wrapper.optimizer.type),
    ('SOLVER.WEIGHT_DECAY', 1e-4, lambda c: c.optim_wrapper.optimizer.weight_decay),
    ('SOLVER.WEIGHT_DECAY of norms and biases', None, lambda c: c.optim_wrapper.get('paramwise_cfg')),
    ('SOLVER.BACKBONE_MULTIPLIER', 1.0, lambda c: c.optim_wrapper.get('paramwise_cfg') or 1.0),
    ('SOLVER.CLIP_GRADIENTS.CLIP_VALUE', 1.0, lambda c: c.optim_wrapper.clip_grad.max_norm),
    ('SOLVER.CLIP_GRADIENTS.NORM_TYPE', 2.0, lambda c: c.optim_wrapper.clip_grad.norm_type),
    ('SOLVER.WARMUP_FACTOR', 0.01, lambda c: c.param_scheduler[0].start_factor),
    ('SOLVER.GAMMA', 0.1, lambda c: c.param_scheduler[1].gamma),
    ('MODEL.PIXEL_MEAN', [123.675, 116.28, 103.53], lambda c: c.model.data_preprocessor.mean),
    ('MODEL.PIXEL_STD', [58.395, 57.12, 57.375], lambda c: c.model.data_preprocessor.std),
    ('INPUT.FORMAT (RGB: the loader gives it)', False, lambda c: c.model.data_preprocessor.get('bgr_to_rgb', False)),
    ('padding', 32, lambda c: c.model.data_preprocessor.pad_size_divisor),
    ('MODEL.RESNETS.STRIDE_IN_1X1', 'pytorch', lambda c: c.model.backbone.style),
    ('MODEL.BACKBONE.FREEZE_AT 2', 1, lambda c: c.model.backbone.frozen_stages),
    ('MODEL.RESNETS.NORM', False, lambda c: c.model.backbone.norm_cfg.requires_grad),
    ('FrozenBN statistics', True, lambda c: c.model.backbone.norm_eval),
    ('MODEL.FPN.OUT_CHANNELS', 256, lambda c: c.model.neck.out_channels),
    ('MODEL.SparseRCNN.NUM_CLASSES', 80, lambda c: head(c).num_classes),
    ('MODEL.SparseRCNN.NUM_HEADS', 6, lambda c: c.model.roi_head.num_stages),
    ('MODEL.SparseRCNN.NHEADS', 8, lambda c: head(c).num_heads),
    ('MODEL.SparseRCNN.HIDDEN_DIM', 256, lambda c: head(c).in_channels),
    ('MODEL.SparseRCNN.HIDDEN_DIM (queries)', 256, lambda c: c.model.rpn_head.proposal_feature_channel),
    ('MODEL.SparseRCNN.DIM_FEEDFORWARD', 2048, lambda c: head(c).feedforward_channels),
    ('MODEL.SparseRCNN.DIM_DYNAMIC', 64, lambda c: head(c).dynamic_conv.feat_channels),
    ('MODEL.SparseRCNN.NUM_CLS', 1, lambda c: head(c).num_cls_fcs),
    ('MODEL.SparseRCNN.NUM_REG', 3, lambda c: head(c).num_reg_fcs),
    ('MODEL.SparseRCNN.CLASS_WEIGHT', 2.0, lambda c: c.model.criterion.loss_cls.loss_weight),
    ('MODEL.SparseRCNN.L1_WEIGHT', 5.0, lambda c: c.model.criterion.loss_bbox.loss_weight),
    ('MODEL.SparseRCNN.GIOU_WEIGHT', 2.0, lambda c: c.model.criterion.loss_iou.loss_weight),
    ('matcher cost_class', 2.0, lambda c: cost(c, 0)),
    ('matcher cost_bbox', 5.0, lambda c: cost(c, 1)),
    ('matcher cost_giou', 2.0, lambda c: cost(c, 2)),
    ('MODEL.SparseRCNN.ALPHA', 0.25, lambda c: c.model.criterion.loss_cls.alpha),
    ('MODEL.SparseRCNN.GAMMA', 2.0, lambda c: c.model.criterion.loss_cls.gamma),
    ('INPUT.MIN_SIZE_TRAIN', list(range(480, 801, 32)), lambda c: list(transform(c, 'ResizeShortSide').short_sides)),
    ('INPUT.MAX_SIZE_TRAIN', 1333, lambda c: transform(c, 'ResizeShortSide').max_long_side),
    ('INPUT.MIN_SIZE_TEST', 800, lambda c: c.test_dataloader.dataset.pipeline[1].short_sides),
    ('INPUT.MAX_SIZE_TEST', 1333, lambda c: c.test_dataloader.dataset.pipeline[1].max_long_side),
    ('INPUT.RANDOM_FLIP', 0.5, lambda c: transform(c, 'RandomFlip').prob),
    ('DATALOADER.FILTER_EMPTY_ANNOTATIONS', None, lambda c: c.train_dataloader.dataset.get('filter_cfg')),
    ('DATALOADER.ASPECT_RATIO_GROUPING', 'AspectRatioBatchSampler', lambda c: c.train_dataloader.batch_sampler.type),
]

LEAVES = {
    'sparse_rcnn_r50_3x': dict(depth=50, proposals=100, iters=270_000, steps=[210_000, 250_000], crop=False),
    'sparse_rcnn_r50_300pro_3x': dict(depth=50, proposals=300, iters=270_000, steps=[210_000, 250_000], crop=True),
    'sparse_rcnn_r101_3x': dict(depth=101, proposals=100, iters=270_000, steps=[210_000, 250_000], crop=False),
    'sparse_rcnn_r101_300pro_3x': dict(depth=101, proposals=300, iters=270_000, steps=[210_000, 250_000], crop=True),
    'sparse_rcnn_r50_1x': dict(depth=50, proposals=100, iters=90_000, steps=[60_000, 80_000], crop=False),
}


@pytest.mark.parametrize('name', LEAVES)
def test_hyper_parameters(name: str) -> None:
    cfg = load(name)
    different = {key: (ours(cfg), official) for key, official, ours in COMMON if ours(cfg) != official}
    assert not different


@pytest.mark.parametrize('name', LEAVES)
def test_what_the_leaf_configs_differ_in(name: str) -> None:
    cfg, official = load(name), LEAVES[name]
    assert cfg.model.backbone.depth == official['depth']
    assert f'resnet{official["depth"]}-' in cfg.model.backbone.init_cfg.checkpoint
    assert cfg.model.rpn_head.num_proposals == official['proposals']
    assert cfg.train_cfg.max_iters == official['iters']
    assert cfg.param_scheduler[1].milestones == official['steps']
    crops = [t for t in cfg.train_dataloader.dataset.pipeline if t.type == 'RandomApply']
    assert len(crops) == official['crop']
    if crops:  # INPUT.CROP.ENABLED of the 300-proposal YAMLs; the sizes are in the official dataset mapper
        resize, crop = crops[0].transforms
        assert crops[0].prob == 0.5
        assert (list(resize.short_sides), resize.get('max_long_side')) == ([400, 500, 600], None)
        assert (crop.min_side, crop.max_side) == (384, 600)


def test_crowdhuman_differs_where_its_yaml_does() -> None:
    """`sparsercnn.crowdhuman.res50.500pro.50e.yaml` at 92e4075."""
    cfg = load('sparse_rcnn_r50_500pro_crowdhuman')
    different = {
        'MODEL.SparseRCNN.NUM_CLASSES': 1, 'INPUT.MIN_SIZE_TRAIN': [640, 672, 704, 736, 768, 800],
        'INPUT.MAX_SIZE_TRAIN': 1500}
    assert {key: ours(cfg) for key, official, ours in COMMON if ours(cfg) != official} == different
    assert cfg.model.rpn_head.num_proposals == 500
    assert (cfg.train_cfg.max_iters, cfg.param_scheduler[1].milestones) == (46_875, [37_500])
    assert (cfg.train_cfg.val_interval, cfg.default_hooks.checkpoint.interval) == (5_000, 5_000)
    assert not [t for t in cfg.train_dataloader.dataset.pipeline if t.type == 'RandomApply']


@pytest.mark.filterwarnings('ignore:Detected call of .scheduler.step')
@pytest.mark.parametrize('name', ['sparse_rcnn_r50_3x', 'sparse_rcnn_r50_1x'])
def test_learning_rate_of_every_iteration(name: str) -> None:
    """mmengine's schedulers against the closed form of detectron2's WarmupMultiStepLR."""
    cfg = load(name)
    init_default_scope('sparse_rcnn_mm')
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=cfg.optim_wrapper.optimizer.lr)
    schedulers = [PARAM_SCHEDULERS.build(s, default_args=dict(optimizer=OptimWrapper(optimizer)))
                  for s in cfg.param_scheduler]
    worst = 0.
    for iteration in range(cfg.train_cfg.max_iters):
        warmup = min(1., 0.01 * (1 - iteration / 1000) + iteration / 1000)
        official = 2.5e-5 * warmup * 0.1**bisect_right(LEAVES[name]['steps'], iteration)
        worst = max(worst, abs(optimizer.param_groups[0]['lr'] / official - 1))
        for scheduler in schedulers:
            scheduler.step()
    print(f'largest relative difference {worst:.1e} (tolerance 1e-12)')
    assert worst < 1e-12
