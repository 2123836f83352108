"""QueryInst against numbers of mmdet's own: logits, boxes, masks, matches, losses, gradients, one step, detections.

Every case prints the largest difference of each quantity beside its tolerance: `pytest tests/queryinst -rP`.
"""
from __future__ import annotations

import ast
from functools import cache

import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmdet.structures.mask import BitmapMasks
from mmengine.config import Config
from mmengine.structures import InstanceData
from torch import Tensor, nn

from sparse_rcnn_mm.models.queryinst import QueryInst
from sparse_rcnn_mm.models.queryinst.mask_targets import mask_targets
from sparse_rcnn_mm.models.queryinst.structures import MaskedGroundTruth, MaskedStageOutput
from sparse_rcnn_mm.models.sparse_rcnn import collect_ground_truth
from sparse_rcnn_mm.registry import MODELS
from tests.kit import ROOT
from tests.kit.comparison import Table, array, largest

from . import rule

CASES = pytest.mark.parametrize('case', list(rule.CASES))
DTYPES = pytest.mark.parametrize('dtype', [torch.float32, torch.float64], ids=['float32', 'float64'])
Batch = tuple[Tensor, list[DetDataSample]]


@cache
def load(case: str) -> dict[str, np.ndarray]:
    with np.load(ROOT / 'tests' / 'data' / 'queryinst' / f'{case}.npz') as arrays:
        return dict(arrays)


def build(case: str, dtype: torch.dtype) -> QueryInst:
    """Our model from our config in the sizes of the case, with mmdet's state dict, which loads strictly."""
    spec, dump = rule.CASES[case], load(case)
    config = Config.fromfile(ROOT / 'configs' / '_base_' / 'models' / 'queryinst_r50.py')
    config.merge_from_dict(dict(model=dict(
        backbone=dict(depth=18, base_channels=8, frozen_stages=-1, init_cfg=None),
        neck=dict(in_channels=[8, 16, 32, 64], out_channels=spec.channels),
        rpn_head=dict(num_proposals=spec.num_proposals, proposal_feature_channel=spec.channels),
        roi_head=dict(
            num_stages=spec.num_stages,
            bbox_head=dict(num_classes=spec.num_classes, in_channels=spec.channels, num_heads=spec.num_heads,
                           feedforward_channels=spec.ffn_channels,
                           dynamic_conv=dict(feat_channels=spec.dynamic_channels)),
            mask_head=dict(num_classes=spec.num_classes, in_channels=spec.channels,
                           feat_channels=spec.dynamic_channels)))))
    model = MODELS.build(config.model)
    shapes = (ast.literal_eval(str(shape)) for shape in dump['shapes'])
    state = {str(name): rule.fill(case, str(name), shape) for name, shape in zip(dump['names'], shapes, strict=True)}
    np.testing.assert_allclose([value.astype(np.float64).sum() for value in state.values()], dump['sums'], atol=1e-6)
    model.load_state_dict({name: torch.from_numpy(value) for name, value in state.items()})
    return model.to(dtype)


def batch_of(case: str, model: QueryInst, dtype: torch.dtype) -> Batch:
    inputs, samples = [], []
    for index, (height, width) in enumerate(rule.CASES[case].images):
        boxes, labels, bitmaps = rule.ground_truth(case, index)
        sample = DetDataSample(metainfo=dict(img_shape=(height, width), ori_shape=rule.output_size(case, index)))
        sample.gt_instances = InstanceData(bboxes=torch.from_numpy(boxes).to(dtype), labels=torch.from_numpy(labels),
                                           masks=BitmapMasks(bitmaps, height, width))
        inputs.append(torch.from_numpy(rule.image(case, index)))
        samples.append(sample)
    model.data_preprocessor.float()
    data = model.data_preprocessor(dict(inputs=inputs, data_samples=samples))
    return data['inputs'].to(dtype), data['data_samples']


def ground_truth(data: Batch) -> MaskedGroundTruth:
    bitmaps = [sample.gt_instances.masks.masks for sample in data[1]]
    height, width = data[0].shape[2:]
    return MaskedGroundTruth(*collect_ground_truth(*data), bitmaps, (height, width))


def compare_stage(table: Table, case: str, stage: int, output: MaskedStageOutput, gt: MaskedGroundTruth) -> None:
    """Logits, boxes, and the masks of the proposals that mmdet matched, with their targets."""
    dump = load(case)
    table.add('logits', largest(array(output.logits), dump[f's{stage}.logits']), 1e-5)
    boxes = dump[f's{stage}.boxes']
    table.add('boxes / largest', largest(array(output.boxes).reshape(-1, 4), boxes) / np.abs(boxes).max(), 1e-6)
    matched = torch.from_numpy(dump[f's{stage}.matched'])
    images, proposals = (matched >= 0).nonzero().T
    starts = torch.tensor([0, *gt.counts[:-1]]).cumsum(0)
    which = matched[images, proposals]
    masks = output.masks(images * matched.shape[1] + proposals, gt.labels[starts[images] + which])
    # In float32 the batch norms over the few masks of a case enlarge what rounding does.
    tolerance = 1e-5 if masks.dtype == torch.float64 else 1e-4
    table.add('masks', largest(array(masks), dump[f's{stage}.masks']), tolerance)
    targets = mask_targets(output.boxes[images, proposals], images, which, masks.shape[-1], gt)
    theirs = np.unpackbits(dump[f's{stage}.targets'])[:targets.numel()]
    table.add('pixels of targets that differ', float((array(targets).ravel() != theirs).sum()), 0)


def compare_gradients(table: Table, case: str, parameters: dict[str, nn.Parameter], tolerance: float) -> None:
    """Norm, largest number and some values; relative to the largest number of the parameter, or a small one of all."""
    dump = load(case)
    least = 1e-6 * dump['grad_peaks'].max()
    peaks = {}
    for name, norm, peak in zip(dump['grad_names'], dump['grad_norms'], dump['grad_peaks'], strict=True):
        gradient, peaks[name] = parameters[name].grad, max(peak, least)
        assert gradient is not None, name
        size = gradient.numel()**0.5
        table.add('gradients, largest', abs(gradient.abs().max().item() - peak) / peaks[name], tolerance)
        table.add('gradients, norm', abs(gradient.norm().item() - norm) / (peaks[name] * size), tolerance)
    for name, wanted in zip(rule.selected(parameters), dump['grad_values'], strict=True):
        values = rule.samples(array(parameters[name].grad))
        table.add('gradients, values', largest(values, wanted) / peaks[name], tolerance)


@DTYPES
@CASES
def test_training(case: str, dtype: torch.dtype) -> None:
    dump, model = load(case), build(case, dtype).train()
    data = batch_of(case, model, dtype)
    table = Table(f'{case} {dtype}')
    with torch.no_grad():
        running = {name: buffer.clone() for name, buffer in model.named_buffers()}
        for stage, output in enumerate(model.run_stages(*data)[1]):
            compare_stage(table, case, stage, output, ground_truth(data))
    model.load_state_dict(running, strict=False)
    losses = model.loss(*data)
    assert list(losses) == dump['loss_keys'].tolist()
    for loss, wanted in zip(losses.values(), dump['losses'], strict=True):
        table.add('losses, relative', abs(loss.item() - wanted) / wanted, 1e-6 if dtype == torch.float64 else 1e-5)
    if dtype == torch.float64:
        step(table, case, model, data, losses)
    table.check()


def step(table: Table, case: str, model: QueryInst, data: Batch, losses: dict[str, Tensor]) -> None:
    """Gradients, and what they and an optimizer make of the weights."""
    dump = load(case)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=1e-4)
    sum(losses.values()).backward()  # type: ignore[union-attr]
    parameters = dict(model.named_parameters())
    compare_gradients(table, case, parameters, 1e-4)
    torch.nn.utils.clip_grad_norm_(model.parameters(), 0.1)
    optimizer.step()
    for name, wanted in zip(rule.selected(parameters), dump['step_values'], strict=True):
        table.add('step, in learning rates', largest(rule.samples(array(parameters[name])), wanted) / 1e-4, 1e-2)
    with torch.no_grad():
        after = sum(model.loss(*data).values()).item()  # type: ignore[union-attr]
    table.add('total after a step, relative', abs(after - dump['total_after']) / dump['total_after'], 1e-5)


@DTYPES
@CASES
@torch.no_grad()
def test_prediction(case: str, dtype: torch.dtype) -> None:
    dump, model = load(case), build(case, dtype).eval()
    data = batch_of(case, model, dtype)
    table = Table(f'{case} {dtype}')
    last = model.run_stages(*data)[1][-1]
    for label in range(rule.CASES[case].num_classes):
        rows = torch.arange(len(dump['masks']))
        masks = last.masks(rows, torch.full_like(rows, label))
        table.add('masks', largest(array(masks), dump['masks'][:, label]), 1e-5)
    for index, sample in enumerate(model.predict(*data)):
        found, (height, width) = sample.pred_instances, rule.output_size(case, index)
        table.add('scores', largest(array(found.scores), dump[f'det{index}_scores']), 1e-6)
        boxes = dump[f'det{index}_boxes'].clip(0, [width, height, width, height])
        table.add('boxes / largest', largest(array(found.bboxes), boxes) / width, 1e-6)
        assert (found.labels.numpy() == dump[f'det{index}_labels']).all()
        theirs = np.unpackbits(dump[f'det{index}_bitmaps'])[:found.masks.numel()].astype(bool)
        assert found.masks.shape == (len(boxes), height, width)
        # A pixel whose probability is one half to the last digit may be on either side.
        table.add('pixels that differ, of a million', (array(found.masks).ravel() != theirs).mean() * 1e6, 10)
    table.check()
