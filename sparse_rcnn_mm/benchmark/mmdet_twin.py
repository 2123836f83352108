"""mmdet's own Sparse R-CNN or QueryInst with our weights, as the other side of a comparison."""
from __future__ import annotations

import copy
from typing import Any

import mmdet.registry
import torch
from mmdet.structures import SampleList
from mmengine.config import Config, ConfigDict
from mmengine.registry import DefaultScope
from torch import Tensor, nn

from sparse_rcnn_mm.acceleration.prediction import PRECISIONS
from sparse_rcnn_mm.errors import UserError


def require_compiled_ops(precision: str, device: str) -> None:
    """Check that mmdet's detector can run.

    Raises:
        UserError: mmcv has no compiled RoIAlign, or none for this precision on this device.
    """
    if not _has_roi_align('fp32', device):
        raise UserError('--against mmdet needs mmcv with compiled ops, which this environment does not have: install '
                        'such a build of mmcv in a separate environment and run this command there')
    if not _has_roi_align(precision, device):
        raise UserError(f'--against-precision {precision}: mmdet needs the RoIAlign of mmcv, which does not support '
                        f'{precision} on {device}; use fp32')


def _has_roi_align(precision: str, device: str) -> bool:
    box = torch.tensor([[0., 0., 0., 2., 2.]], dtype=PRECISIONS[precision], device=device)
    try:
        from mmcv.ops import roi_align
        roi_align(torch.zeros(1, 1, 2, 2).to(box), box, (1, 1))
    except Exception:  # its type depends on the build of mmcv
        return False
    return True


def build_twin(cfg: Config, state: dict[str, Tensor]) -> nn.Module:
    """mmdet's SparseRCNN or QueryInst for one of our configs, with the weights `state`.

    Raises:
        UserError: the config uses something that mmdet's detector does not have, such as tied stages or
            selective query recollection.
    """
    model: dict[str, Any] = copy.deepcopy(cfg.model.to_dict())
    head = model['roi_head']
    heads = {'SparseRCNN': 'SparseRoIHead', 'QueryInst': 'MaskedRoIHead'}
    if head.get('order') or head['bbox_head']['type'] != 'DIIHead' or head['type'] != heads.get(model['type']):
        raise UserError('--against mmdet: mmdet has no such model; its stages are DIIHead, and each runs once')
    stages = head['num_stages']
    criterion, extractor = model.pop('criterion'), head['roi_extractor']
    channels = head['bbox_head']['in_channels']
    proposals = model['rpn_head']['num_proposals']
    model['rpn_head'].pop('grid', None)  # only where untrained boxes start
    model.pop('postprocessor')
    model['backbone']['init_cfg'] = None
    if model['backbone'].get('norm_cfg', {}).get('type') == 'NaiveSyncBatchNorm':
        model['backbone']['norm_cfg']['type'] = 'BN'  # the same in one process
    model['roi_head'] = dict(
        type='SparseRoIHead', num_stages=stages, stage_loss_weights=[1] * stages, proposal_feature_channel=channels,
        bbox_roi_extractor=_extractor(extractor, channels),
        bbox_head=[_stage(head['bbox_head'], criterion) for _ in range(stages)])
    step = dict(assigner=criterion['assigner'], sampler=dict(type='PseudoSampler'), pos_weight=1)
    if model['type'] == 'QueryInst':
        model['roi_head'] |= dict(
            mask_roi_extractor=_extractor(head['mask_roi_extractor'], channels),
            mask_head=[_mask_head(head, criterion) for _ in range(stages)])
        step['mask_size'] = 2 * head['mask_roi_extractor']['output_size']
    model['train_cfg'] = dict(rpn=None, rcnn=[step] * stages)
    model['test_cfg'] = dict(rpn=None, rcnn=dict(max_per_img=proposals, mask_thr_binary=0.5))
    with DefaultScope.overwrite_default_scope('mmdet'):
        twin = mmdet.registry.MODELS.build(ConfigDict(model))
    twin.load_state_dict(state)
    return twin.eval()


def _extractor(extractor: dict[str, Any], channels: int) -> dict[str, Any]:
    """The config of one of our RoI extractors, in mmdet's form."""
    return dict(
        type='SingleRoIExtractor', out_channels=channels, featmap_strides=list(extractor['strides']),
        roi_layer=dict(type='RoIAlign', output_size=extractor.get('output_size', 7), sampling_ratio=2),
        finest_scale=extractor.get('finest_scale', 56))


def _stage(stage: dict[str, Any], criterion: dict[str, Any]) -> dict[str, Any]:
    """The config of one of our stages, in mmdet's form."""
    channels = stage['in_channels']
    loss_cls = {'type': 'FocalLoss', 'use_sigmoid': True, **criterion['loss_cls']}
    shared = {key: value for key, value in stage.items() if key != 'dynamic_conv'}
    return {
        **shared, 'num_ffn_fcs': 2, 'dropout': 0.0, 'ffn_act_cfg': dict(type='ReLU', inplace=True),
        'loss_cls': loss_cls, 'loss_bbox': criterion['loss_bbox'],
        'loss_iou': criterion['loss_iou'],
        'dynamic_conv_cfg': _dynamic_conv(channels, stage['dynamic_conv']['feat_channels'], 7),
        'bbox_coder': dict(type='DeltaXYWHBBoxCoder', clip_border=False, target_means=[0.] * 4,
                           target_stds=[0.5, 0.5, 1., 1.])}


def _mask_head(head: dict[str, Any], criterion: dict[str, Any]) -> dict[str, Any]:
    """The config of the mask head of one of our stages, in mmdet's form."""
    mask, bins = head['mask_head'], head['mask_roi_extractor']['output_size']
    return {
        'type': 'DynamicMaskHead', 'num_convs': mask['num_convs'], 'num_classes': mask['num_classes'],
        'in_channels': mask['in_channels'], 'conv_out_channels': mask['in_channels'], 'roi_feat_size': bins,
        'dynamic_conv_cfg': {**_dynamic_conv(mask['in_channels'], mask['feat_channels'], bins), 'with_proj': False},
        'norm_cfg': dict(type='BN'), 'upsample_cfg': dict(type='deconv', scale_factor=2),
        'loss_mask': {**criterion['loss_mask'], 'use_sigmoid': True, 'activate': False}}


def _dynamic_conv(channels: int, inner: int, bins: int) -> dict[str, Any]:
    return dict(type='DynamicConv', in_channels=channels, feat_channels=inner, out_channels=channels,
                input_feat_shape=bins, act_cfg=dict(type='ReLU', inplace=True), norm_cfg=dict(type='LN'))


def last_stage(twin: nn.Module, images: Tensor, samples: SampleList) -> tuple[Tensor, Tensor]:
    """Logits (B, N, K) and boxes (B, N, 4) of the twin's last stage, as its `predict` computes them.

    mmdet's `_forward` cannot be used: it gives every stage the input of the first one.
    """
    head, stages = twin.roi_head, []
    run = head._bbox_forward

    def recording(*args: Any, **kwargs: Any) -> dict[str, Any]:
        stages.append(run(*args, **kwargs))
        return stages[-1]

    head._bbox_forward = recording
    try:
        twin.predict(images, copy.deepcopy(samples))
    finally:
        del head._bbox_forward
    logits = stages[-1]['cls_score']
    return logits, stages[-1]['decoded_bboxes'].view(*logits.shape[:2], 4)
