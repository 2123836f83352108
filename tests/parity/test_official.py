"""Our model against numbers of the official code, through the interface that the Runner uses.

Every case prints the largest difference of each quantity beside its tolerance: `pytest tests/parity -rP`.
The tolerances are some ten times what the official code differs from itself by, with another number of threads.
"""
import hashlib

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment

from sparse_rcnn_mm.models.sparse_rcnn import collect_ground_truth
from sparse_rcnn_mm.registry import OPTIM_WRAPPERS, OPTIMIZERS
from tests.kit.comparison import Table, array, largest

from . import rule
from .cases import batch_of, build, load_dump, our_name


def moments(x: torch.Tensor) -> np.ndarray:
    """Per image mean, std, mean of abs, min, max, mean of value * linspace(-1, 1)."""
    flat = array(x).reshape(len(x), -1).astype(np.float64)
    ramp = np.linspace(-1, 1, flat.shape[1])
    columns = flat.mean(1), flat.std(1), np.abs(flat).mean(1), flat.min(1), flat.max(1), (flat * ramp).mean(1)
    return np.stack(columns, 1)


def sampled(x: torch.Tensor) -> np.ndarray:
    """The values that were dumped of a parameter."""
    flat = array(x).reshape(-1)
    return np.concatenate([flat[:64], flat[np.unique(np.linspace(0, len(flat) - 1, 64).astype(int))]])


def split_samples(values: np.ndarray, parameters: list[torch.Tensor]) -> list[np.ndarray]:
    lengths = [len(sampled(parameter)) for parameter in parameters]
    return np.split(values, np.cumsum(lengths)[:-1])


def official_losses(losses: dict[str, torch.Tensor], num_stages: int) -> dict[str, float]:
    """Our losses under the official names, which leave out the number of the last stage."""
    kinds = {'loss_cls': 'loss_ce', 'loss_bbox': 'loss_bbox', 'loss_iou': 'loss_giou'}
    renamed = {}
    for name, value in losses.items():
        stage, kind = name[1:].split('.')
        renamed[kinds[kind] + ('' if int(stage) == num_stages - 1 else f'_{stage}')] = value.item()
    return renamed


def compare_losses(table: Table, quantity: str, losses: dict, dump: dict, values: np.ndarray, tolerance: float) -> None:
    ours = official_losses(losses, len(values) // 3)
    assert sorted(ours) == sorted(dump['loss_keys'])
    for key, value in zip(dump['loss_keys'], values, strict=True):
        table.add(quantity, abs(ours[key] - value) / max(abs(value), 1e-3), tolerance)


def compare_detections(table: Table, sample, dump: dict, index: int) -> None:
    """As sets: neither the official order nor that of equal scores means anything."""
    boxes, scores, labels = (dump[f'det{index}_{key}'] for key in ('boxes', 'scores', 'labels'))
    found = sample.pred_instances
    assert len(found) == len(boxes), f'{len(found)} detections instead of {len(boxes)} in image {index}'
    box_difference = np.abs(array(found.bboxes)[:, None] - boxes).max(-1) / np.abs(boxes).max()
    score_difference = np.abs(array(found.scores)[:, None] - scores)
    other_label = array(found.labels)[:, None] != labels
    rows, columns = linear_sum_assignment(box_difference + score_difference + other_label)
    assert not other_label[rows, columns].any()
    table.add('detections: scores', score_difference[rows, columns].max(initial=0), 1e-4)
    table.add('detections: boxes / largest', box_difference[rows, columns].max(initial=0), 1e-5)


def compare_forward(table: Table, model: torch.nn.Module, batch: dict, dump: dict) -> None:
    model.eval()
    with torch.no_grad():
        data = model.data_preprocessor(batch, False)
        x = data['inputs']
        height, width = data['data_samples'][1].img_shape
        assert tuple(x.shape) == tuple(dump['batch_shape'])
        table.add('batch', largest(array(x[:, :, :24, :24]), dump['batch_topleft']), 1e-5)
        edge = x[:, :, height - 12:height + 12, width - 12:width + 12]
        table.add('batch', largest(array(edge), dump['batch_edge']), 1e-5)
        table.add('batch', largest(moments(x), dump['batch_moments']), 1e-5)
        for level, feat in enumerate(model.extract_feat(x), start=2):
            assert tuple(feat.shape) == tuple(dump[f'p{level}_shape'])
            table.add('FPN outputs', largest(array(feat[:, :8, :12, :12]), dump[f'p{level}_crop']), 1e-4)
            table.add('FPN outputs, moments', largest(moments(feat), dump[f'p{level}_moments']), 1e-4)
        stages = model(x, data['data_samples'], mode='tensor')
        for stage, (logits, boxes) in enumerate(stages):
            expected = dump[f'stage{stage}_boxes']
            table.add(f'stage {stage}: logits', largest(array(logits), dump[f'stage{stage}_logits']), 1e-4)
            table.add(f'stage {stage}: boxes / largest', largest(array(boxes), expected) / np.abs(expected).max(), 1e-5)
        for index, sample in enumerate(model(x, data['data_samples'], mode='predict')):
            compare_detections(table, sample, dump, index)


def compare_matches(table: Table, model: torch.nn.Module, batch: dict, dump: dict) -> None:
    data = model.data_preprocessor(batch, True)
    with torch.no_grad():
        stages = model(**data, mode='tensor')
    gt = collect_ground_truth(data['inputs'], data['data_samples'])
    matched_gt = model.criterion.assigner(torch.stack([s[0] for s in stages]), torch.stack([s[1] for s in stages]), gt)
    for stage in range(len(stages)):
        for image in range(2):
            proposals, gts = dump[f'match_stage{stage}_img{image}']
            expected = np.full(matched_gt.shape[2], -1)
            expected[proposals] = gts
            table.add('matches that differ', (matched_gt[stage, image].numpy() != expected).sum(), 0)


def compare_training(table: Table, model: torch.nn.Module, cfg, batch: dict, dump: dict, small: bool) -> None:
    model.train()
    with torch.no_grad():
        losses = model(**model.data_preprocessor(batch, True), mode='loss')
    compare_losses(table, 'losses in float32, relative', losses, dump, dump['loss_values'], 1e-5)
    if small:
        # In float32 a single ReLU on the edge, which falls to either side by processor, moves a gradient by 1e-4.
        model.double()
    parameters = dict(model.named_parameters())
    trainable = [parameters[our_name(name)] for name in dump.trainable]
    assert {id(p) for p in trainable} == {id(p) for p in parameters.values() if p.requires_grad}
    selected = [parameters[our_name(name)] for name in dump['sel_names']]
    before = [parameter.detach().clone() for parameter in trainable]

    losses = model(**model.data_preprocessor(batch, True), mode='loss')
    compare_losses(table, 'losses, relative', losses, dump, dump['loss_values'], 1e-5)
    total, _ = model.parse_losses(losses)
    table.add('total loss, relative', abs(total.item() / dump['loss_total'] - 1), 1e-5)
    total.backward()
    compare_gradients(table, trainable, selected, dump, 1e-4 if small else 1e-2)

    model.zero_grad()
    optimizer = OPTIMIZERS.build(dict(cfg.optim_wrapper.optimizer, params=trainable))
    wrapper = OPTIM_WRAPPERS.build(dict(cfg.optim_wrapper, optimizer=optimizer))
    model.train_step(batch, wrapper)
    compare_step(table, selected, dump, small)
    norms = np.array([(after.detach() - old).double().norm() for after, old in zip(trainable, before, strict=True)])
    expected_norms = dump['all_step_delta_norms']
    # Loose, because the step of an element hangs on the sign of its gradient only, which is noise where that is 0.
    # A moved element moves by 2.5e-5; below 1e-5 is weight decay alone, which float32 rounds away.
    difference = np.abs(norms - expected_norms) / np.maximum(expected_norms, 1e-5)
    table.add('one AdamW step: norms, relative', difference.max(), 1e-2)
    with torch.no_grad():
        after = model(**model.data_preprocessor(batch, True), mode='loss')
    compare_losses(table, 'losses after it, relative', after, dump, dump['loss_after_step'], 1e-5 if small else 1e-3)


def compare_gradients(table: Table, trainable: list, selected: list, dump: dict, tolerance: float) -> None:
    norms = np.array([parameter.grad.double().norm() for parameter in trainable])
    expected_norms = dump['all_grad_norms']
    table.add('gradient norms / largest', np.abs(norms - expected_norms).max() / expected_norms.max(), tolerance)
    table.add('total gradient norm, relative', abs(np.sqrt((norms**2).sum()) / dump['grad_total_norm'] - 1), tolerance)
    for parameter, expected in zip(selected, split_samples(dump['grad_sel'], selected), strict=True):
        peak = parameter.grad.abs().max().item()
        difference = largest(sampled(parameter.grad), expected)
        table.add('gradients / peak', difference / peak if peak else difference, tolerance)


def compare_step(table: Table, selected: list, dump: dict, small: bool) -> None:
    """AdamW's first step has the size of the learning rate and the sign of the gradient, whatever the size of that.

    In full-size cases single ReLUs flip with the order of summation, so a gradient near 0 may have either sign.
    """
    gradients, values = split_samples(dump['grad_sel'], selected), split_samples(dump['step_sel'], selected)
    for parameter, gradient, expected in zip(selected, gradients, values, strict=True):
        difference = np.abs(sampled(parameter) - expected)
        noise = np.abs(gradient) < (0 if small else 1e-3) * np.abs(gradient).max()
        table.add('one AdamW step: values', difference[~noise].max(initial=0), 1e-6 if small else 1e-5)
        table.add('one AdamW step: noise gradients', difference[noise].max(initial=0), 2 * 2.5e-5)


@pytest.mark.parametrize('case', rule.CASES)
def test_equals_the_official_code(case):
    dump = load_dump(case)
    model, cfg = build(case)
    batch = batch_of(case)
    table = Table(case)
    compare_forward(table, model, batch, dump)
    compare_matches(table, model, batch, dump)
    compare_training(table, model, cfg, batch, dump, small=case != 'r50_100')
    table.check()


@pytest.mark.parametrize('case', rule.CASES)
def test_the_rule_gives_the_weights_and_images_that_were_dumped(case):
    dump = load_dump(case)
    for index, (name, shape) in enumerate(dump.shapes.items()):
        values = rule.fill(case, name, shape).astype(np.float64)
        assert np.isclose(values.sum(), dump['state_sum'][index], rtol=1e-9, atol=1e-9), name
        assert np.isclose((values**2).sum(), dump['state_sumsq'][index], rtol=1e-9), name
    for index, digest in enumerate(dump['img_sha256']):
        assert hashlib.sha256(rule.image(case, index).tobytes()).hexdigest() == digest
