"""AdaMixer against numbers of its own code: every value on the way, losses, matches, gradients, in both precisions.

Every case prints the largest difference of each quantity beside its tolerance: `pytest tests/successors -rP`.
"""
from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from sparse_rcnn_mm.models import SetCriterion
from sparse_rcnn_mm.models.adamixer import AdaMixerOutput, AdaMixerStage, WholeImageProposals, XYZRProposals
from sparse_rcnn_mm.models.adamixer.adamixer_stage import intersection_over_first
from sparse_rcnn_mm.models.adamixer.xyzr import boxes_of, encode, size_of
from sparse_rcnn_mm.registry import MODELS
from tests.kit.comparison import Table
from tests.models.samples import CRITERION

from .dumps import Dump, array, beside_peak, compare_feature_gradients, compare_gradients, largest, load, relative

CASES = ['adamixer_stage_toy', 'adamixer_stage_toy_outside', 'adamixer_head', 'adamixer_head_empty',
         'adamixer_head_allempty']
DTYPES = pytest.mark.parametrize('dtype', [torch.float32, torch.float64], ids=['float32', 'float64'])


def stage_of(config: dict) -> dict:
    return dict(type='AdaMixerStage', num_classes=config['classes'], in_channels=config['width'],
                num_heads=config['heads'], feedforward_channels=config['ffn'], groups=config['groups'],
                in_points=config['in_points'], out_points=config['out_points'])


def build(dump: Dump, dtype: torch.dtype, head: str = 'SparseRoIHead') -> torch.nn.ModuleDict:
    """Our parts with the weights of the case."""
    config = dump.config
    parts = torch.nn.ModuleDict({
        'rpn_head': WholeImageProposals(num_proposals=config['queries'], proposal_feature_channel=config['width']),
        'roi_head': MODELS.build(dict(
            type=head, num_stages=config['stages'], bbox_head=stage_of(config),
            roi_extractor=dict(type='PointSampler', strides=config['strides'], groups=config['groups'])))})
    state = dump.state()
    parts.load_state_dict(state)
    return parts.to(dtype)


def run(dump: Dump, parts: torch.nn.ModuleDict, feats: list[Tensor]) -> list[AdaMixerOutput]:
    dtype = feats[0].dtype
    start = parts['rpn_head'](feats, dump.img_whwh(dtype))
    if dump.config['start'] is not None:
        xyzr = torch.from_numpy(dump['init_xyzr']).to(dtype)
        start = XYZRProposals(boxes_of(xyzr), start.queries, xyzr)
    return parts['roi_head'](feats, start)


def criterion() -> SetCriterion:
    return MODELS.build(dict(CRITERION, normalizer='num_matched'))


def compare_call(table: Table, dump: Dump, call: int, output: AdaMixerOutput) -> None:
    table.add('logits', largest(array(output.logits), dump[f'call{call}_logits']), 1e-4)
    table.add('boxes / largest', beside_peak(output.boxes, dump[f'call{call}_boxes']), 1e-5)
    table.add('states', largest(array(output.xyzr), dump[f'call{call}_xyzr']), 1e-3)
    table.add('queries', largest(array(output.queries), dump[f'call{call}_query']), 2e-4)


def compare_matches(table: Table, dump: Dump, call: int, matched_gt: Tensor) -> None:
    for image, matched in enumerate(matched_gt):
        table.add('matches that differ', (matched.numpy() != dump[f'call{call}_match_img{image}']).sum(), 0)


def finite_total(losses: dict[str, Tensor]) -> Tensor:
    total = torch.stack(list(losses.values())).sum()
    assert total.isfinite()
    return total


@DTYPES
@pytest.mark.parametrize('case', CASES)
def test_stages_losses_and_gradients(case: str, dtype: torch.dtype) -> None:
    dump = load(case)
    table, parts, feats, gt = Table(f'{case} {dtype}'), build(dump, dtype), dump.feats(dtype), dump.ground_truth(dtype)
    stages = run(dump, parts, feats)
    for call, output in enumerate(stages):
        compare_call(table, dump, call, output)
    loss = criterion()
    matched = loss.assigner(*(torch.stack([getattr(stage, key) for stage in stages]).detach()
                              for key in ('logits', 'boxes')), gt)
    for call in range(len(stages)):
        compare_matches(table, dump, call, matched[call])
    losses = loss(stages, gt, None)
    total = finite_total(losses)
    if sum(gt.counts):
        for call in range(len(stages)):
            for key, wanted in zip(('cls', 'bbox', 'iou'), dump[f'call{call}_losses'], strict=True):
                table.add('losses, relative', relative(losses[f's{call}.loss_{key}'].item(), wanted), 1e-5)
        table.add('total loss, relative', relative(total.item(), dump['loss_total']), 1e-5)
        total.backward()
        compare_gradients(table, dump, dict(parts.named_parameters()), 1e-4)
        compare_feature_gradients(table, dump, feats, 2e-4)
    table.check()


@DTYPES
@pytest.mark.parametrize('case', CASES[:2])
def test_every_value_on_the_way(case: str, dtype: torch.dtype) -> None:
    dump = load(case)
    table, feats = Table(f'{case} {dtype}'), dump.feats(dtype)
    head = build(dump, dtype)['roi_head']
    stage: AdaMixerStage = head.bbox_head[0]
    pyramid = head.roi_extractor(feats)
    xyzr, queries = (torch.from_numpy(dump[f'detail_in_{key}']).to(dtype) for key in ('xyzr', 'query'))

    def add(key: str, ours: Tensor, tolerance: float = 5e-5) -> None:
        table.add(key, largest(array(ours), dump[f'detail_{key}']), tolerance)

    add('in_boxes', boxes_of(xyzr), 1e-3)
    add('pe', encode(xyzr, queries.shape[-1]))
    covered = (intersection_over_first(boxes_of(xyzr)) + 1e-7).log()[:, None] * stage.iof_tau[:, None, None]
    add('iof_bias', covered, 2e-4)
    attended = stage.attend(queries, xyzr)
    add('attn_norm', attended)
    mixing = stage.sampling_n_mixing
    points = mixing.points(attended, xyzr)
    add('points', points, 1e-3)
    add('level_weight', pyramid.level_weights(points[..., 2]))
    sampled = pyramid.sample(points)
    table.add('sampled', largest(array(sampled), dump['detail_sampled'].reshape(sampled.shape)), 1e-4)
    mixed = mixing.adaptive_mixing(attended.flatten(0, 1), sampled).view_as(queries)
    add('mix_out', mixed)
    add('mix_norm', mixing.norm(mixed))
    add('ffn_norm', stage.ffn_norm(mixing.norm(mixed) + stage.ffn['layers'](mixing.norm(mixed))))
    table.check()


def test_the_whole_image_is_the_start() -> None:
    dump = load('adamixer_head')
    start = build(dump, torch.float32)['rpn_head']([], dump.img_whwh(torch.float32))
    np.testing.assert_allclose(array(start.xyzr), dump['init_xyzr'], atol=1e-6)
    np.testing.assert_allclose(array(start.queries), dump['init_query'], atol=1e-6)
    np.testing.assert_allclose(array(size_of(start.xyzr)[:, 0]), [[160, 128], [144, 96]], rtol=1e-6)
    np.testing.assert_allclose(array(start.boxes[1, 0]), [0, 0, 144, 96])


@pytest.mark.parametrize('image', [0, 1])
def test_detections(image: int) -> None:
    """Top 20 of the last stage; boxes in the image's size divided by (1.5, 1.25)."""
    dump = load('adamixer_head')
    feats = dump.feats(torch.float32)
    found = MODELS.build(dict(type='TopKDetections', max_per_img=20))(run(dump, build(dump, torch.float32), feats)[-1])
    np.testing.assert_allclose(array(found.scores[image]), dump[f'det{image}_scores'], atol=1e-4)
    assert (found.labels[image].numpy() == dump[f'det{image}_labels']).all()
    boxes = array(found.boxes[image]) / np.float32([1.5, 1.25, 1.5, 1.25])
    np.testing.assert_allclose(boxes, dump[f'det{image}_boxes'], rtol=1e-5, atol=1e-3)
