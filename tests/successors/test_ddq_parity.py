"""DDQ R-CNN against numbers of its own code: dense predictions, distinct boxes, matches, losses, gradients, stages.

Every case prints the largest difference of each quantity beside its tolerance: `pytest tests/successors -rP`.
"""
from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sparse_rcnn_mm.models.ddq import DensePredictions, DistinctProposals
from sparse_rcnn_mm.models.ddq.decoding import geometric_mean
from sparse_rcnn_mm.models.ddq.distinct import distinct
from sparse_rcnn_mm.models.ddq.pyramid_shuffle import pyramid_shuffle
from sparse_rcnn_mm.models.structures import GroundTruth
from sparse_rcnn_mm.registry import MODELS
from tests.kit.comparison import Table
from tests.models.samples import CRITERION

from . import rule
from .dumps import Dump, array, beside_peak, compare_feature_gradients, compare_gradients, largest, load, relative
from .test_adamixer_parity import DTYPES, compare_matches

CASES = ['ddq', 'ddq_empty']


def dense_criterion(predictions: str, matches: int) -> dict:
    return dict(type='DenseCriterion', predictions=predictions,
                assigner=dict(type='RepeatedHungarianAssigner', matches=matches,
                              match_costs=CRITERION['assigner']['match_costs']),
                loss_cls=dict(type='QualityFocalLoss'), loss_iou=dict(type='GIoULoss', loss_weight=2.))


def criterion() -> nn.Module:
    return MODELS.build(dict(type='Criteria', parts=dict(
        stage=dict(CRITERION, normalizer='num_matched'), rpn=dense_criterion('main', 1),
        rpn_aux=dense_criterion('auxiliary', 8))))


def build(dump: Dump, dtype: torch.dtype) -> nn.ModuleDict:
    config = dump.config
    parts = nn.ModuleDict({
        'rpn_head': MODELS.build(dict(
            type='DenseDistinctProposals', num_classes=config['classes'], in_channels=config['width'],
            strides=config['rpn_strides'], norm_groups=config['groups_gn'], num_proposals=300)),
        'roi_head': MODELS.build(dict(
            type='SparseRoIHead', num_stages=config['stages'],
            roi_extractor=dict(type='RoIExtractor', strides=config['strides']),
            bbox_head=dict(type='DIIHead', num_classes=config['classes'], in_channels=config['width'],
                           num_heads=config['heads'], feedforward_channels=config['ffn'],
                           dynamic_conv=dict(type='DynamicConv', feat_channels=config['dynamic']))))})
    parts.load_state_dict(dump.state())
    return parts.to(dtype).train()


def compare_candidates(table: Table, dump: Dump, name: str, dense: DensePredictions, image: int) -> None:
    kept = dense.kept[image]
    ids, scores, boxes = (array(values[image][kept]) for values in (dense.ids, dense.scores, dense.boxes))
    wanted = {key: dump.get(f'{name}{image}_{key}', dump.get(f'{name}{image}_{key}_first'))
              for key in ('ids', 'scores', 'boxes')}
    table.add(f'{name}: ids that differ', np.setxor1d(ids, wanted['ids']).size, 0)
    if name == 'distinct':
        scores = scores.max(-1)
    rows = np.argsort(ids)[np.searchsorted(np.sort(ids), wanted['ids'][:len(wanted['scores'])])]
    table.add(f'{name}: scores', largest(scores[rows], wanted['scores']), 1e-5)
    table.add(f'{name}: boxes / largest', largest(boxes[rows], wanted['boxes']) / np.abs(wanted['boxes']).max(), 1e-5)


def compare_dense_matches(table: Table, dump: Dump, name: str, dense: DensePredictions, matched_gt: Tensor,
                          qualities: Tensor) -> None:
    """`qualities` are of all matches, image by image."""
    start = 0
    for image in range(len(matched_gt)):
        matched = matched_gt[image][dense.kept[image]]
        rows = (matched >= 0).nonzero()[:, 0]
        quality = qualities[start:start + len(rows)]
        start += len(rows)
        if f'{name}_pos{image}' in dump:
            table.add(f'{name}: matches that differ', (rows.numpy() != dump[f'{name}_pos{image}']).sum(), 0)
            table.add(f'{name}: matches that differ', (matched[rows].numpy() != dump[f'{name}_pos_gt{image}']).sum(), 0)
            table.add(f'{name}: quality', largest(array(quality), dump[f'{name}_pos_quality{image}']), 1e-5)


def compare_dense(table: Table, dump: Dump, loss: nn.Module, proposals: DistinctProposals, gt: GroundTruth) -> None:
    for image in range(len(gt.counts)):
        compare_candidates(table, dump, 'distinct', proposals.main, image)
        compare_candidates(table, dump, 'aux_cand', proposals.auxiliary, image)
    for name, part, dense in (('main', loss.parts['rpn'], proposals.main),
                              ('aux', loss.parts['rpn_aux'], proposals.auxiliary)):
        qualities: list[Tensor] = []
        original = part.quality
        part.quality = lambda *values, own=original, seen=qualities: seen.append(own(*values)) or seen[-1]
        matched = part.assigner(dense, gt)
        part.losses(dense, matched, gt)
        part.quality = original
        compare_dense_matches(table, dump, name, dense, matched, qualities[0])


def compare_losses(table: Table, dump: Dump, losses: dict[str, Tensor]) -> None:
    sums: dict[str, float] = {}
    for key, wanted in zip(dump['loss_keys'].tolist(), dump['loss_values'], strict=True):
        if 'loss' in key:
            kind, name = key.split('[')[0].split('_loss_')
            ours = f'stage.s{kind[5:]}.loss_{name}' if kind.startswith('stage') else f'{kind}.loss_{name}'
            ours = ours.replace('loss_bbox', 'loss_iou') if kind.startswith('rpn') else ours
            sums[ours] = sums.get(ours, 0.) + float(wanted)
    assert set(sums) == {name for name in losses if 'loss' in name}
    for name, wanted in sums.items():
        table.add('losses, relative', relative(losses[name].item(), wanted), 1e-5)


@DTYPES
@pytest.mark.parametrize('case', CASES)
def test_dense_predictions_stages_losses_and_gradients(case: str, dtype: torch.dtype) -> None:
    dump = load(case)
    table, parts, feats, gt = Table(f'{case} {dtype}'), build(dump, dtype), dump.feats(dtype), dump.ground_truth(dtype)
    proposals = parts['rpn_head'](feats, gt.img_whwh)
    table.add('proposals / largest', beside_peak(proposals.boxes, dump['proposals']), 1e-5)
    table.add('queries', largest(array(proposals.queries), dump['queries']), 1e-4)
    loss = criterion()
    compare_dense(table, dump, loss, proposals, gt)
    stages = parts['roi_head'](feats, proposals)
    # In float32 the dense boxes are 1e-4 pixels off, about the last digit, and pooling random features amplifies this.
    # How much depends on the processor's convolutions: 5e-5 with AVX-512, 2e-4 without.
    noise = 3 if dtype == torch.float32 else 1
    for call, stage in enumerate(stages):
        table.add('stages: logits', largest(array(stage.logits), dump[f'call{call}_logits']), 1e-4 * noise)
        table.add('stages: boxes / largest', beside_peak(stage.boxes, dump[f'call{call}_boxes']), 1e-5 * noise)
        if sum(gt.counts):
            matched = loss.parts['stage'].assigner(stage.logits.detach()[None], stage.boxes.detach()[None], gt)
            compare_matches(table, dump, call, matched[0])
    losses = loss(stages, gt, proposals)
    assert all(value.isfinite() for value in losses.values())
    total = torch.stack([value for name, value in losses.items() if 'loss' in name]).sum()
    total.backward()
    if sum(gt.counts):
        compare_losses(table, dump, losses)
        table.add('total loss, relative', relative(total.item(), dump['loss_total']), 1e-5)
        compare_gradients(table, dump, dict(parts.named_parameters()), 2e-3)
        compare_feature_gradients(table, dump, feats, 3e-3)
    else:
        assert not any(value for name, value in losses.items() if name.startswith('rpn') and 'loss' in name)
        assert all(parameter.grad is not None for parameter in parts.parameters())
    table.check()


@DTYPES
def test_towers(dtype: torch.dtype) -> None:
    dump = load('ddq')
    table, head, feats = Table(f'towers {dtype}'), build(dump, dtype)['rpn_head'], dump.feats(dtype)[1:]
    for kind in ('cls', 'reg'):
        for level, feat in enumerate(head.tower(kind, feats)):
            key = f'{kind}_feat{level}'
            part = feat if key in dump else feat[:, :8, :6, :6]
            table.add(key, largest(array(part), dump[key] if key in dump else dump[f'{key}_crop']), 1e-4)
    table.check()


def test_shuffle() -> None:
    dump = load('ddq')
    feats = dump.feats(torch.float64)[1:]
    for level, feat in enumerate(pyramid_shuffle(feats, dump.config['shuffle'])):
        key = f'shuffle{level}'
        part = feat if key in dump else feat[:, :8, :6, :6]
        np.testing.assert_allclose(array(part), dump[key] if key in dump else dump[f'{key}_crop'], atol=1e-6)
        np.testing.assert_allclose(array(feat.mean(dim=(2, 3))).ravel(), dump[f'{key}_chmean'].ravel(), atol=1e-6)


def test_the_score_and_its_gradient_down_to_logits_of_120() -> None:
    dump = load('ddq')
    x = torch.from_numpy(dump['sgm_logits'])[:, None].repeat(1, 11).requires_grad_()
    y = x.detach().T.clone().requires_grad_()
    score = geometric_mean(x, y)
    score.sum().backward()
    for ours, key in ((score, 'sgm_score'), (x.grad, 'sgm_grad_x'), (y.grad, 'sgm_grad_y')):
        np.testing.assert_allclose(array(ours), dump[key], rtol=2e-5, atol=1e-8)  # theirs underflows earlier


@pytest.mark.parametrize('count', [300, 1500])
def test_nms_keeps_what_the_compiled_one_keeps(count: int) -> None:
    dump = load('ddq_nms')
    boxes, scores = (torch.from_numpy(one) for one in rule.nms_set(f'successors-nms-{count}-v1', count))
    order = scores.argsort(descending=True)
    assert order[distinct(boxes[order], 0.7)].tolist() == dump[f'keep{count}'].tolist()
