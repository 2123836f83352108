"""Selective query recollection against numbers of its own code, and against separate calls of the plain head."""
from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn

from sparse_rcnn_mm.errors import UserError
from sparse_rcnn_mm.models.structures import Proposals, StageOutput
from sparse_rcnn_mm.registry import MODELS
from tests.kit.comparison import Table
from tests.models.samples import CRITERION, random_gt, rectangles, tiny_model

from .dumps import compare_feature_gradients, compare_gradients, load, relative
from .test_adamixer_parity import DTYPES, build, compare_call, compare_matches, criterion, finite_total, run

CALLS = [1, 2, 3, 5]  # groups of the four stages


@DTYPES
@pytest.mark.parametrize('case', ['sqr_head'])
def test_the_slow_decoder_of_its_own_code(case: str, dtype: torch.dtype) -> None:
    dump = load(case)
    table, feats, gt = Table(f'{case} {dtype}'), dump.feats(dtype), dump.ground_truth(dtype)
    parts = build(dump, dtype, 'RecollectingRoIHead').train()
    stages = run(dump, parts, feats)
    batch = len(gt.counts)
    groups = [type(stage)(*rows) for stage in stages
              for rows in zip(*(field.split(batch) for field in stage), strict=True)]
    assert [len(stage.logits) // batch for stage in stages] == CALLS
    assert dump['call_stage'].tolist() == [stage for stage, count in enumerate(CALLS) for _ in range(count)]
    loss = criterion()
    matched = loss.assigner(*(torch.stack([getattr(group, key) for group in groups]).detach()
                              for key in ('logits', 'boxes')), gt)
    for call, group in enumerate(groups):
        compare_call(table, dump, call, group)
        compare_matches(table, dump, call, matched[call])
    losses = loss(stages, gt, None)
    for key, wanted in zip(dump['loss_keys'].tolist(), dump['loss_values'], strict=True):
        if 'loss' in key:
            table.add('losses, relative', relative(losses[key.replace('stage', 's').replace('_', '.', 1)].item(),
                                                   wanted), 1e-5)
    total = finite_total(losses)
    table.add('total loss, relative', relative(total.item(), dump['loss_total']), 1e-5)
    total.backward()
    compare_gradients(table, dump, dict(parts.named_parameters()), 1e-4)
    compare_feature_gradients(table, dump, feats, 3e-4)
    table.check()


def head(kind: str, **options: object) -> nn.Module:
    config = tiny_model().roi_head
    config.update(type=kind, num_stages=4, **options)
    torch.manual_seed(3)
    module = MODELS.build(config)
    for stage in module.bbox_head:
        nn.init.normal_(stage.fc_cls.bias)
    return module.double().train()


def inputs(batch: int) -> tuple[list[Tensor], Proposals]:
    torch.manual_seed(5)
    feats = [torch.randn(batch, 16, 80 // s, 104 // s, dtype=torch.float64, requires_grad=True) for s in (8, 16, 32)]
    gt = random_gt([8] * batch)
    boxes = gt.boxes.view(batch, 8, 4).double().requires_grad_()
    return feats, Proposals(boxes, torch.randn(batch, 8, 16, dtype=torch.float64, requires_grad=True))


def gradients(total: Tensor, module: nn.Module, feats: Sequence[Tensor], start: Proposals) -> tuple[Tensor, ...]:
    return torch.autograd.grad(total, [*module.parameters(), *feats, *start])


def separate_calls(plain: nn.Module, feats: Sequence[Tensor], start: Proposals) -> list[list[StageOutput]]:
    """Every group of every stage by a call of its own: a pool of starts for each stage, older stages first."""
    pyramid = plain.roi_extractor(feats)
    before: list[list] = [[], [start]]
    for stage in plain.bbox_head:
        outputs = [stage(pyramid, one if one is start else one._replace(boxes=one.boxes.detach()))
                   for one in before[-2] + before[-1]]
        before.append(outputs)
    return before[2:]


@pytest.mark.parametrize('batch', [1, 2, 3])
def test_two_stages_recollected_are_separate_plain_calls(batch: int) -> None:
    feats, start = inputs(batch)
    gt = random_gt([2, 0, 5][:batch], num_classes=3)
    ours, plain = head('RecollectingRoIHead'), head('SparseRoIHead')
    loss = MODELS.build(CRITERION)
    stages, calls = ours(feats, start), separate_calls(plain, feats, start)
    for stage, groups in zip(stages, calls, strict=True):
        for mine, theirs in zip(stage, zip(*groups, strict=True), strict=True):
            torch.testing.assert_close(mine, torch.cat(theirs), rtol=1e-9, atol=1e-9)
    total = sum(loss(stages, gt, start).values())
    wanted = sum(sum(loss([group], gt, start).values()) for groups in calls for group in groups)
    torch.testing.assert_close(total, wanted)
    for a, b in zip(gradients(total, ours, feats, start), gradients(wanted, plain, feats, start), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-8)


def test_one_stage_recollected_is_plain_training_bit_for_bit() -> None:
    feats, start = inputs(2)
    gt, loss = random_gt([3, 1], num_classes=3), MODELS.build(CRITERION)
    results = []
    for module in (head('RecollectingRoIHead', recollect=1), head('SparseRoIHead')):
        losses = loss(module(feats, start), gt, start)
        results.append([*losses.values(), *gradients(sum(losses.values()), module, feats, start)])
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


@pytest.mark.parametrize(('recollect', 'groups'), [(1, [1, 1, 1, 1]), (2, [1, 2, 3, 5]), (3, [1, 2, 4, 7]),
                                               (9, [1, 2, 4, 8])])
def test_groups_of_every_stage(recollect: int, groups: list[int]) -> None:
    feats, start = inputs(1)
    assert [len(stage.logits) for stage in head('RecollectingRoIHead', recollect=recollect)(feats, start)] == groups


def test_prediction_and_checkpoint_are_plain() -> None:
    feats, start = inputs(2)
    ours, plain = head('RecollectingRoIHead'), head('SparseRoIHead')
    assert list(ours.state_dict()) == list(plain.state_dict())
    for stage, wanted in zip(ours.eval()(feats, start), plain.eval()(feats, start), strict=True):
        assert all(torch.equal(a, b) for a, b in zip(stage, wanted, strict=True))


def test_features_are_not_repeated() -> None:
    feats, start = inputs(2)
    module = head('RecollectingRoIHead')
    pyramids = []
    for stage in module.bbox_head:
        stage.register_forward_pre_hook(lambda _, arguments: pyramids.append(arguments[0]))
    module(feats, start)
    assert len(pyramids) == 4 and len({id(pyramid) for pyramid in pyramids}) == 1
    assert pyramids[0].rows.rows.shape[0] == 2 * (10 * 13 + 5 * 6 + 2 * 3)


def test_checkpointing_gives_the_same_gradients() -> None:
    feats, start = inputs(1)
    gt, loss = random_gt([2], num_classes=3), MODELS.build(CRITERION)
    a, b = (gradients(sum(loss(module(feats, start), gt, start).values()), module, feats, start)
            for module in (head('RecollectingRoIHead'), head('RecollectingRoIHead', with_cp=True)))
    torch.testing.assert_close(a, b)


def test_training_steps_make_the_loss_fall() -> None:
    config = tiny_model()
    config.roi_head.type = 'RecollectingRoIHead'
    model = MODELS.build(config).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    data = model.data_preprocessor(rectangles(4), True)
    totals = []
    for _ in range(25):
        total = sum(model(**data, mode='loss').values())
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        totals.append(total.item())
    assert totals[-1] < 0.8 * totals[0]


def test_nothing_recollected_is_an_error() -> None:
    with pytest.raises(UserError, match='recollect of RecollectingRoIHead must be at least 1, not 0'):
        head('RecollectingRoIHead', recollect=0)
