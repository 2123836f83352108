"""Detectors of mmdet from their checkpoints: DETR, which needs no compiled operations, and what is refused."""
from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.registry import DefaultScope
from torch import nn

from sparse_rcnn_mm.checkpoints import StoredConfig, is_of_mmdet
from sparse_rcnn_mm.errors import UserError
from sparse_rcnn_mm.inference.backend import Found
from sparse_rcnn_mm.inference.mmdet_models import _best_first, _boxed, open_checkpoint

ATTENTION = dict(embed_dims=32, num_heads=4)
LAYER = dict(self_attn_cfg=ATTENTION, ffn_cfg=dict(embed_dims=32, feedforward_channels=64, num_fcs=2))
MODEL: dict[str, Any] = dict(
    type='DETR', num_queries=12,
    data_preprocessor=dict(type='DetDataPreprocessor', mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375],
                           bgr_to_rgb=True, pad_size_divisor=1),
    backbone=dict(type='ResNet', depth=18, num_stages=4, out_indices=(3,), base_channels=8, norm_eval=True,
                  init_cfg=dict(type='Pretrained', checkpoint='torchvision://resnet18')),
    neck=dict(type='ChannelMapper', in_channels=[64], kernel_size=1, out_channels=32, act_cfg=None, norm_cfg=None,
              num_outs=1),
    encoder=dict(num_layers=1, layer_cfg=LAYER),
    decoder=dict(num_layers=1, return_intermediate=True, layer_cfg=dict(cross_attn_cfg=ATTENTION, **LAYER)),
    positional_encoding=dict(num_feats=16, normalize=True),
    bbox_head=dict(type='DETRHead', num_classes=3, embed_dims=32,
                   loss_cls=dict(type='CrossEntropyLoss', bg_cls_weight=0.1, class_weight=1.0)),
    train_cfg=dict(assigner=dict(type='HungarianAssigner', match_costs=[dict(type='ClassificationCost')])),
    test_cfg=dict(max_per_img=10))
PIPELINE = [dict(type='LoadImageFromFile'), dict(type='Resize', scale=(128, 96), keep_ratio=True),
            dict(type='PackDetInputs', meta_keys=('img_shape', 'ori_shape', 'scale_factor'))]


def detr() -> nn.Module:
    torch.manual_seed(0)
    model = copy.deepcopy(MODEL)
    model['backbone']['init_cfg'] = None
    with DefaultScope.overwrite_default_scope('mmdet'):
        built = MODELS.build(model)
    nn.init.normal_(built.bbox_head.fc_cls.weight, std=3)
    return built.eval()


def saved(path: Path, model: nn.Module, **meta: Any) -> Path:
    """As mmengine's Runner saves it."""
    cfg = Config(dict(default_scope='mmdet', model=MODEL, test_dataloader=dict(
        dataset=dict(type='CocoDataset', pipeline=PIPELINE))))
    torch.save({'state_dict': model.state_dict(), 'meta': {
        'cfg': cfg.pretty_text, 'dataset_meta': {'classes': ('cat', 'dog', 'cow')}, **meta}}, path)
    return path


def test_detr_finds_what_mmdet_finds(tmp_path: Path, colored: Callable[..., np.ndarray]) -> None:
    """The pipeline by hand: the image is 192x256, so that it is halved to 96x128; and BGR."""
    import mmcv

    model, image = detr(), colored(0, 192, 256)
    detector = open_checkpoint(saved(tmp_path / 'detr.pth', model), device='cpu')
    assert detector.classes == ('cat', 'dog', 'cow')
    found = detector(image)
    pixels = mmcv.imresize(image[..., ::-1], (128, 96))
    sample = DetDataSample(metainfo=dict(img_shape=(96, 128), ori_shape=(192, 256), scale_factor=(0.5, 0.5)))
    with torch.no_grad():
        theirs = model.test_step({'inputs': [torch.from_numpy(pixels.copy()).permute(2, 0, 1)],
                                  'data_samples': [sample]})[0].pred_instances
    assert len(found) == 10
    np.testing.assert_allclose(found.boxes, theirs.bboxes.numpy(), atol=1e-3)
    np.testing.assert_allclose(found.scores, theirs.scores.numpy(), atol=1e-5)
    assert found.labels.tolist() == theirs.labels.tolist()
    assert (np.diff(found.scores) <= 0).all()


def test_what_is_missing_or_wrong_is_named(tmp_path: Path, colored: Callable[..., np.ndarray]) -> None:
    model, image = detr(), colored(0)
    few = open_checkpoint(saved(tmp_path / 'few.pth', model, dataset_meta={'classes': ('cat',)}), device='cpu')
    with pytest.raises(UserError, match='but only 1 classes have names'):
        few(image)
    del model.bbox_head.fc_cls.bias
    with pytest.raises(UserError, match='does not fit'):
        open_checkpoint(saved(tmp_path / 'part.pth', model), device='cpu')


def test_a_checkpoint_of_this_package_is_opened_as_ever(small_checkpoint: Path, colored: Callable[..., np.ndarray],
                                                        ) -> None:
    from sparse_rcnn_mm.inference import Detector
    ours, plain = open_checkpoint(small_checkpoint, device='cpu'), Detector.from_checkpoint(small_checkpoint,
                                                                                            device='cpu')
    assert ours(colored(0)).scores.tolist() == plain(colored(0)).scores.tolist()


@pytest.mark.parametrize(('change', 'said'), [
    (dict(type='SemiBaseDetector'), 'which a stored config may not name'),
    (dict(type='GroundingDINO'), 'which a stored config may not name'),
    (dict(bbox_head=dict(type='ATSSVLFusionHead', lang_model_name='bert')), 'which a stored config may not name'),
    (dict(bbox_head=dict(type='CameraMotionCompensation', warp_mode='print')), 'which a stored config may not name'),
    (dict(bbox_head=dict(type='AppearanceFreeLink', checkpoint='x')), 'which a stored config may not name'),
    (dict(test_cfg=dict(nms=dict(type='print'))), 'not registered'),
    (dict(test_cfg=dict(nms=dict(type='system("ls")'))), 'not registered'),
])
def test_a_stored_config_of_mmdet_may_not_name_what_reads_or_runs_more(change: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        StoredConfig({'model': {**MODEL, **change}}, 'x.pth').mmdet_model()


def test_nms_and_roi_align_are_names_in_a_stored_config() -> None:
    given = {'type': 'FasterRCNN', 'train_cfg': {'rpn': 1}, 'test_cfg': {'rcnn': {'nms': {'type': 'nms'}}},
             'roi_head': {'type': 'StandardRoIHead', 'bbox_roi_extractor': {'roi_layer': {'type': 'RoIAlign'}}}}
    expected = {key: value for key, value in given.items() if key != 'train_cfg'}
    assert StoredConfig({'model': given}, 'x.pth').mmdet_model() == expected


@pytest.mark.parametrize(('kind', 'scope', 'mmdets'), [
    ('DETR', 'mmdet', True), ('mmdet.DETR', 'sparse_rcnn_mm', True), ('SparseRCNN', 'sparse_rcnn_mm', False),
    ('sparse_rcnn_mm.SparseRCNN', 'mmdet', False), ('SparseRCNN', None, False)])
def test_whose_model_it_is(kind: str, scope: str | None, mmdets: bool) -> None:
    assert is_of_mmdet({'model': {'type': kind}, 'default_scope': scope}) is mmdets


def test_masks_are_kept_in_order_and_detections_without_a_box_get_that_of_their_mask() -> None:
    masks = np.zeros((2, 20, 30), bool)
    masks[0, 5:9, 10:14] = masks[1, 0:3, 2:12] = True
    boxes = np.array([[1, 1, 5, 5], [2, 2, 7, 7]], np.float32)
    found = Found(boxes, np.array([0.2, 0.9], np.float32), np.array([0, 1]), masks)
    assert _boxed(found) is found
    ordered = _best_first(_boxed(found._replace(boxes=np.zeros_like(boxes))))
    assert ordered.boxes.tolist() == [[2, 0, 12, 3], [10, 5, 14, 9]]
    assert ordered.masks is not None and (ordered.masks == masks[::-1]).all()
    assert _best_first(found._replace(masks=None)).masks is None
