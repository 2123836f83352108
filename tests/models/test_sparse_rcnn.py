"""The detector: its size and names, one path for all modes, boxes in the frame of the original image."""
import copy
from functools import cache
from typing import Any

import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.optim import OptimWrapper
from torch import Tensor, nn

from sparse_rcnn_mm.models import SparseRCNN
from sparse_rcnn_mm.models.sparse_rcnn import collect_ground_truth, sizes_of_images
from sparse_rcnn_mm.models.structures import Detections, Proposals
from sparse_rcnn_mm.registry import MODELS

from .samples import ROOT, rectangles, tiny_model


def build(**changes: Any) -> SparseRCNN:
    return MODELS.build(dict(tiny_model(), **changes))


def sample(img_shape: tuple[int, int], ori_shape: tuple[int, int] | None = None) -> DetDataSample:
    return DetDataSample(metainfo=dict(img_shape=img_shape, ori_shape=ori_shape or img_shape))


@cache
def r50() -> SparseRCNN:
    """R50, 100 proposals, 80 classes, without memory behind its weights."""
    config = Config.fromfile(ROOT / 'configs' / '_base_' / 'models' / 'sparse_rcnn_r50.py').model
    config.backbone.init_cfg = None
    with torch.device('meta'):
        return MODELS.build(config)


def test_r50_has_576_entries_and_106_million_parameters() -> None:
    assert len(r50().state_dict()) == 576
    assert round(sum(p.numel() for p in r50().parameters()) / 1e6, 2) == 106.29


def test_r50_trains_all_but_the_frozen_stem_and_its_batch_norms() -> None:
    frozen = {name for name, p in r50().named_parameters() if not p.requires_grad}
    norms = {f'{name}.{kind}' for name, module in r50().named_modules() if isinstance(module, nn.BatchNorm2d)
             for kind in ('weight', 'bias')}
    stem = {name for name, _ in r50().named_parameters() if name.startswith(('backbone.conv1', 'backbone.layer1'))}
    assert frozen == norms | stem


def test_r50_has_the_keys_of_the_model_zoo() -> None:
    state = r50().state_dict()
    kinds = {name.split('.')[0] for name in state}
    assert kinds == {'backbone', 'neck', 'rpn_head', 'roi_head'}
    stages = [name.split('.')[:3] for name in state if name.startswith('roi_head')]
    assert stages == sorted((['roi_head', 'bbox_head', str(stage)] for stage in range(6) for _ in range(40)), key=str)
    stage = 'roi_head.bbox_head.5'
    expected = {
        'rpn_head.init_proposal_bboxes.weight': (100, 4),
        'rpn_head.init_proposal_features.weight': (100, 256),
        'neck.lateral_convs.0.conv.weight': (256, 256, 1, 1),
        'neck.fpn_convs.3.conv.bias': (256,),
        f'{stage}.attention.attn.in_proj_weight': (768, 256),
        f'{stage}.instance_interactive_conv.dynamic_layer.weight': (2 * 256 * 64, 256),
        f'{stage}.instance_interactive_conv.norm_in.weight': (64,),
        f'{stage}.instance_interactive_conv.fc_layer.weight': (256, 256 * 49),
        f'{stage}.ffn.layers.0.0.weight': (2048, 256),
        f'{stage}.ffn.layers.1.weight': (256, 2048),
        f'{stage}.cls_fcs.0.weight': (256, 256),
        f'{stage}.reg_fcs.7.bias': (256,),
        f'{stage}.fc_cls.weight': (80, 256),
        f'{stage}.fc_reg.weight': (4, 256)}
    assert {name: tuple(state[name].shape) for name in expected} == expected


@pytest.mark.parametrize('part', ['', 'rpn_head', 'roi_head', 'roi_head.bbox_head', 'roi_head.bbox_head.dynamic_conv',
                                  'roi_head.roi_extractor', 'criterion', 'criterion.assigner', 'criterion.loss_cls',
                                  'criterion.loss_bbox', 'criterion.loss_iou', 'postprocessor'])
def test_an_unknown_setting_anywhere_is_a_type_error(part: str) -> None:
    config = place = tiny_model()
    for key in filter(None, part.split('.')):
        place = place[key]
    place.no_such_setting = 1
    with pytest.raises(TypeError, match="unexpected keyword argument 'no_such_setting'"):
        MODELS.build(config)


def test_tensor_mode_without_data_samples_takes_the_batch_as_the_image() -> None:
    model, x = build().eval(), torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        without, with_samples = model(x, mode='tensor'), model(x, [sample((64, 96))] * 2, mode='tensor')
        smaller = model(x, [sample((60, 70))] * 2, mode='tensor')
    assert len(without) == 2
    for stage, same, other in zip(without, with_samples, smaller, strict=True):
        assert [tuple(value.shape) for value in stage] == [(2, 8, 3), (2, 8, 4)]
        assert torch.equal(stage[0], same[0]) and torch.equal(stage[1], same[1])
        assert not torch.allclose(stage[1], other[1])


def test_all_modes_run_the_same_network(monkeypatch: pytest.MonkeyPatch) -> None:
    model = build().eval()
    data = model.data_preprocessor(rectangles(2), False)
    raw = model(**data, mode='tensor')
    calls = []

    def criterion(stages: list, gt: Any, proposals: Any) -> dict:
        calls.append([(stage.logits, stage.boxes) for stage in stages])
        return {}

    def postprocessor(stage: Any) -> Detections:
        calls.append([(stage.logits, stage.boxes)])
        nothing = torch.zeros(2, 0, dtype=torch.long)
        return Detections(torch.zeros(2, 0), nothing, torch.zeros(2, 0, 4), nothing)

    monkeypatch.setattr(model.criterion, 'forward', criterion)
    monkeypatch.setattr(model, 'postprocessor', postprocessor)
    model(**data, mode='loss')
    model(**data, mode='predict')
    in_loss, in_predict = calls
    torch.testing.assert_close(in_loss, raw)
    torch.testing.assert_close(in_predict, raw[-1:])


def predicted(boxes: list, img_shapes: list, ori_shapes: list, rescale: bool = True) -> list[DetDataSample]:
    """What `predict` makes of given detections (B, k, 4), scored 0.9, 0.8, ..., of the classes 0, 1, 2, 0, ..."""
    model, batch, k = build().eval(), len(boxes), len(boxes[0])
    found = Detections((0.9 - 0.1 * torch.arange(k)).expand(batch, k), torch.arange(k).expand(batch, k) % 3,
                       torch.tensor(boxes), torch.arange(k).expand(batch, k))
    model.postprocessor = lambda stage: found
    samples = [sample(img, ori) for img, ori in zip(img_shapes, ori_shapes, strict=True)]
    with torch.no_grad():
        return model.predict(torch.randn(batch, 3, 64, 96), samples, rescale=rescale)


def test_boxes_come_back_in_the_original_image_by_axis() -> None:
    """Resized (h, w) = (60, 80) from (120, 320) is a factor 4 in x and 2 in y; the second image was not resized."""
    boxes = [[[10., 20., 40., 50.]], [[10., 20., 40., 50.]]]
    shapes = [(60, 80), (64, 96)], [(120, 320), (64, 96)]
    first, second = (s.pred_instances for s in predicted(boxes, *shapes))
    torch.testing.assert_close(first.bboxes, torch.tensor([[40., 40., 160., 100.]]))
    torch.testing.assert_close(second.bboxes, torch.tensor([[10., 20., 40., 50.]]))
    first, second = (s.pred_instances for s in predicted(boxes, *shapes, rescale=False))
    torch.testing.assert_close(first.bboxes, torch.tensor([[10., 20., 40., 50.]]))


def test_boxes_are_clipped_and_the_empty_dropped_with_their_scores_and_labels() -> None:
    boxes = [[[-5., -5., 20., 20.],  # clipped at the left and the top
              [60., 40., 200., 200.],  # clipped at the right and the bottom of (60, 80), not of the batch
              [81., 10., 95., 20.],  # in the padding only
              [10., 61., 20., 63.],  # likewise
              [30., 30., 30., 40.],  # without width
              [40., 30., 35., 40.],  # of negative width
              [-9., -9., -1., -1.],  # outside
              [float('nan')] * 4,
              [1., 2., 3., 4.]]]
    for rescale, factor in [(False, 1), (True, 2)]:
        found = predicted(boxes, [(60, 80)], [(120, 160)], rescale)[0].pred_instances
        torch.testing.assert_close(found.bboxes, factor * torch.tensor(
            [[0., 0., 20., 20.], [60., 40., 80., 60.], [1., 2., 3., 4.]]))
        torch.testing.assert_close(found.scores, torch.tensor([0.9, 0.8, 0.1]))
        assert found.labels.tolist() == [0, 1, 2]


def test_an_image_may_keep_no_detection() -> None:
    empty, full = predicted([[[0., 0., 0., 0.]], [[0., 0., 9., 9.]]], [(64, 96)] * 2, [(64, 96)] * 2)
    assert len(empty.pred_instances) == 0 and empty.pred_instances.bboxes.shape == (0, 4)
    assert len(full.pred_instances) == 1


def test_predictions_are_the_best_of_the_last_stage() -> None:
    model, x = build().eval(), torch.randn(2, 3, 64, 96)
    samples = [sample((64, 96)), sample((64, 96))]
    with torch.no_grad():
        logits, boxes = model(x, samples, mode='tensor')[-1]
        results = model(x, samples, mode='predict')
    for image, result in enumerate(results):
        found = result.pred_instances
        assert (found.scores.diff() <= 0).all() and len(found) <= 8
        for box, score, label in zip(found.bboxes, found.scores, found.labels, strict=True):
            near = (logits[image, :, label].sigmoid() - score).abs() < 1e-6
            clipped = boxes[image].clamp(min=0).minimum(torch.tensor([96., 64., 96., 64.]))
            assert ((clipped - box).abs().amax(-1) < 1e-3)[near].any()


def test_one_class() -> None:
    config = tiny_model()
    config.roi_head.bbox_head.num_classes = 1
    model, batch = MODELS.build(config), rectangles(2)
    for s in batch['data_samples']:
        s.gt_instances.labels.zero_()
    losses = model(**model.data_preprocessor(copy.deepcopy(batch), True), mode='loss')
    assert all(loss.isfinite() for loss in losses.values())
    with torch.no_grad():
        results = model.eval().test_step(batch)
    assert all((result.pred_instances.labels == 0).all() for result in results)
    assert len(results[0].pred_instances) > 0


def test_images_without_objects_train() -> None:
    model, batch = build(), rectangles(2)
    for s in batch['data_samples']:
        s.gt_instances = s.gt_instances[:0]
    log = model.train_step(batch, OptimWrapper(torch.optim.SGD(model.parameters(), lr=1e-3)))
    assert all(value.isfinite() for value in log.values())
    assert log['s0.loss_bbox'] == 0 and log['s0.loss_cls'] > 0
    assert all(p.isfinite().all() for p in model.parameters())


def test_ground_truths_become_one_flat_list() -> None:
    batch = rectangles(3)['data_samples']
    batch[1].gt_instances = batch[1].gt_instances[:0]
    batch[2].set_metainfo(dict(img_shape=(50, 60)))
    gt = collect_ground_truth(torch.zeros(3, 3, 64, 64), batch)
    assert gt.counts == [2, 0, 2] and gt.image.tolist() == [0, 0, 2, 2]
    assert torch.equal(gt.boxes[2:], batch[2].gt_instances.bboxes)
    assert torch.equal(gt.labels[:2], batch[0].gt_instances.labels)
    assert gt.img_whwh[:, 0].tolist() == [[64., 64., 64., 64.], [64., 64., 64., 64.], [60., 50., 60., 50.]]


def test_image_sizes_leave_out_channels_and_padding() -> None:
    x = torch.zeros(2, 3, 64, 96)
    samples = [sample((60, 70, 3), (120, 140)), sample((64, 96))]
    assert sizes_of_images(x, samples).tolist() == [[[70., 60., 70., 60.]], [[96., 64., 96., 64.]]]
    assert sizes_of_images(x, samples, 'ori_shape').tolist() == [[[140., 120., 140., 120.]], [[96., 64., 96., 64.]]]
    assert sizes_of_images(x, None).tolist() == [[[96., 64., 96., 64.]]] * 2


class Pool(nn.Module):
    """Feature levels in which a cell sees its own pixels only, so that padding cannot leak into an image."""

    def forward(self, x: Tensor) -> list[Tensor]:
        x = x.mean(1, keepdim=True) * torch.linspace(-1, 1, 16)[:, None, None]
        return [nn.functional.avg_pool2d(x, stride) for stride in (8, 16, 32)]


class Inside(nn.Module):
    """Proposals away from the border of their image."""

    def forward(self, feats: list[Tensor], img_whwh: Tensor) -> Proposals:
        boxes = torch.tensor([[4., 4., 24., 40.], [10., 10., 40., 30.], [6., 8., 9., 10.]]) / 64
        return Proposals(boxes * img_whwh, torch.linspace(-1, 1, 48).view(3, 16).expand(len(img_whwh), -1, -1))


def test_padding_changes_nothing_for_proposals_inside_the_image() -> None:
    """All but the features depends on the size of the image alone.

    What convolutions near its border see, and RoIs that reach over it, do depend on the padding, as in the official
    code.
    """
    model = build().eval()
    model.backbone, model.neck, model.rpn_head = nn.Identity(), Pool(), Inside()
    for stage in model.roi_head.bbox_head:  # small steps, which stay inside
        nn.init.constant_(stage.fc_reg.weight, 0.01)
    x, samples = torch.randn(2, 3, 64, 64), [sample((64, 64))] * 2
    with torch.no_grad():
        plain = model(x, samples, mode='tensor')
        padded = model(nn.functional.pad(x, (0, 96, 0, 32)), samples, mode='tensor')
    for one, other in zip(plain, padded, strict=True):
        torch.testing.assert_close(one, other)


def test_an_image_in_a_batch_is_predicted_as_alone() -> None:
    model, batch = build().eval(), rectangles(3)
    with torch.no_grad():
        together = model.test_step(copy.deepcopy(batch))
        for i, result in enumerate(together):
            alone = model.test_step(dict(inputs=batch['inputs'][i:i + 1],
                                         data_samples=copy.deepcopy(batch['data_samples'][i:i + 1])))[0]
            torch.testing.assert_close(alone.pred_instances.scores, result.pred_instances.scores, rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(alone.pred_instances.bboxes, result.pred_instances.bboxes, rtol=1e-3, atol=1e-2)


def test_every_trainable_parameter_gets_a_gradient() -> None:
    """Otherwise training by several processes stops with an error."""
    model = build()
    losses = model(**model.data_preprocessor(rectangles(), True), mode='loss')
    sum(losses.values()).backward()
    assert [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None] == []


def test_every_trainable_parameter_gets_a_gradient_without_objects_too() -> None:
    model, batch = build(), rectangles()
    for s in batch['data_samples']:
        s.gt_instances = s.gt_instances[:0]
    losses = model(**model.data_preprocessor(batch, True), mode='loss')
    sum(losses.values()).backward()
    assert [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None] == []
