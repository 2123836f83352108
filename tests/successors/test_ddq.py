"""What DDQ's parts do, beside the dumped numbers."""
from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
import torch
from mmengine.config import Config
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from sparse_rcnn_mm.acceleration.prediction import fast_form
from sparse_rcnn_mm.errors import NotFinite, UserError
from sparse_rcnn_mm.models.box_ops import overlaps
from sparse_rcnn_mm.models.ddq import (
    DenseCriterion,
    DenseDistinctProposals,
    DensePredictions,
    DistinctProposals,
    QualityFocalLoss,
    RepeatedHungarianAssigner,
)
from sparse_rcnn_mm.models.ddq.decoding import boxes_around
from sparse_rcnn_mm.models.ddq.distinct import distinct
from sparse_rcnn_mm.models.ddq.pyramid_shuffle import pyramid_shuffle
from sparse_rcnn_mm.registry import MODELS
from tests.kit import CONFIGS
from tests.models.samples import precisions_in, random_boxes, random_gt, rectangles

from .test_ddq_parity import dense_criterion


def greedy(boxes: Tensor, threshold: float) -> list[bool]:
    """One by one, as it is usually written."""
    kept: list[int] = []
    for index, box in enumerate(boxes):
        if not any(overlaps(box, boxes[other])[0] > threshold for other in kept):
            kept.append(index)
    return [index in kept for index in range(len(boxes))]


@pytest.mark.parametrize('seed', range(12))
def test_repeated_suppression_is_greedy(seed: int) -> None:
    """Also with the same box twice, boxes without area, and none or one box."""
    torch.manual_seed(seed)
    boxes = random_boxes([0, 1, 2, 40, 60, 60][seed % 6], width=30, height=30, dtype=torch.float64)
    if len(boxes) > 9:
        boxes[7, 2:], boxes[9] = boxes[7, :2], boxes[3]
    for threshold in (0.3, 0.7):
        assert distinct(boxes, threshold).tolist() == greedy(boxes, threshold)


def test_a_chain_of_boxes() -> None:
    """Each overlaps its neighbors by a third: every second one remains, though it takes a round for each."""
    left = torch.arange(700.)[:, None]
    assert distinct(torch.cat([left, left * 0, left + 2, left * 0 + 1], dim=1), 0.3).tolist() == [True, False] * 350


def test_shuffle_takes_these_channels() -> None:
    """Channel c of level l holds 100 l + c, of 8 channels and 2 exchanged."""
    feats = [torch.arange(8.)[:, None, None].expand(1, 8, size, size) + 100 * level
             for level, size in enumerate((8, 4, 2))]
    coarser_finer = [(106, 107, 4, 5), (206, 207, 4, 5), (206, 207, 104, 105)]
    for level, (feat, wanted) in enumerate(zip(pyramid_shuffle(feats, 2), coarser_finer, strict=True)):
        own = [100 * level + channel for channel in range(4)]
        assert feat[0, :, 0, -1].tolist() == pytest.approx([*own, *wanted])
        torch.testing.assert_close(feat, feat[..., :1, :1].expand_as(feat))


def test_boxes_around_the_centers_of_cells() -> None:
    distances = torch.tensor([1., 2., 3., 4.])[:, None, None].expand(1, 4, 2, 3)
    boxes = boxes_around(distances, 8)
    assert boxes[0, :, 1, 2].tolist() == [20 - 1, 12 - 2, 20 + 3, 12 + 4]


def costs(seed: int, num_gts: int, candidates: int) -> np.ndarray:
    return np.random.RandomState(seed).rand(num_gts, candidates)


@pytest.mark.parametrize(('num_gts', 'candidates', 'each'), [(1, 4, 2), (2, 6, 2), (3, 7, 2), (3, 5, 1)])
def test_assignment_is_the_cheapest_of_all(num_gts: int, candidates: int, each: int) -> None:
    assigner = RepeatedHungarianAssigner([], matches=each)
    for seed in range(5):
        cost = costs(seed, num_gts, candidates)
        matched = assigner.match(cost)
        assert [(matched == gt).sum() for gt in range(num_gts)] == [each] * num_gts
        rows = np.repeat(np.arange(num_gts), each)
        best = min(cost[rows, list(columns)].sum() for columns in permutations(range(candidates), len(rows)))
        assert cost[matched[matched >= 0], np.flatnonzero(matched >= 0)].sum() == pytest.approx(best)


@pytest.mark.parametrize('seed', range(20))
def test_assignment_without_dear_candidates_is_the_whole_one(seed: int) -> None:
    cost = costs(seed, 5, 300)
    if seed % 2:  # all ground truths want the same
        cost = cost[:1] + 0.1 * cost
    matched = RepeatedHungarianAssigner([], matches=4).match(cost)
    rows, columns = linear_sum_assignment(np.repeat(cost, 4, axis=0))
    assert (matched[columns] == rows // 4).all() and (matched >= 0).sum() == 20


def test_assignment_with_few_candidates() -> None:
    """8 each, but 7 candidates for 3: 2 each; for 8: none, as in the original code."""
    assigner = RepeatedHungarianAssigner([], matches=8)
    assert np.unique(assigner.match(costs(0, 3, 7)), return_counts=True)[1].tolist() == [1, 2, 2, 2]
    assert (assigner.match(costs(0, 8, 7)) == -1).all()
    assert assigner.match(np.zeros((0, 4))).tolist() == [-1] * 4


def test_quality_focal_loss_by_hand() -> None:
    loss = QualityFocalLoss(loss_weight=3.)(torch.tensor([0.2, 0.2]), torch.tensor([0.7, 0.]))
    wanted = [3 * 0.25 * -(0.7 * np.log(0.2) + 0.3 * np.log(0.8)), 3 * 0.04 * -np.log(0.8)]
    assert loss.tolist() == pytest.approx(wanted)


def test_quality_by_hand() -> None:
    """Of three matches, two share a ground truth: its best one gets the larger overlap of the two."""
    criterion: DenseCriterion = MODELS.build(dense_criterion('main', 1))
    quality = criterion.quality(torch.tensor([0.5, 1., 0.1]), torch.tensor([0.8, 0.5, 0.9]), torch.tensor([1, 1, 0]), 2)
    first, second = 0.5 * 0.8**6, 0.5**6
    assert quality.tolist() == pytest.approx([0.8, 0.8 * second / first, 0.9], rel=1e-4)


def dense(scores: Tensor, boxes: Tensor, kept: Tensor | None = None) -> DensePredictions:
    kept = torch.ones(scores.shape[:2], dtype=torch.bool) if kept is None else kept
    return DensePredictions(torch.zeros(kept.shape, dtype=torch.long), scores, boxes, kept)


def test_candidates_that_are_not_kept_teach_nothing() -> None:
    """The losses are those of the kept ones alone."""
    gt = random_gt([3, 2])
    scores, boxes = torch.rand(2, 12, 5), random_boxes(2, 12)
    criterion: DenseCriterion = MODELS.build(dense_criterion('main', 2))
    kept = (torch.arange(12) % 3 != 1).expand(2, 12)
    some, all_of_them = (dense(scores, boxes, kept), dense(scores[:, kept[0]], boxes[:, kept[0]]))
    a, b = (criterion.losses(one, criterion.assigner(one, gt), gt) for one in (some, all_of_them))
    torch.testing.assert_close(a, b)


def test_autocast_is_off_in_the_dense_losses() -> None:
    criterion: DenseCriterion = MODELS.build(dense_criterion('main', 1))
    found = precisions_in(criterion.loss_cls)
    proposals = DistinctProposals(torch.zeros(0), torch.zeros(0), dense(torch.rand(1, 4, 5), random_boxes(1, 4)), None)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        criterion([], random_gt([2]), proposals)
    assert found == [torch.float32]


def test_an_image_without_ground_truth_teaches_nothing() -> None:
    scores = torch.rand(2, 12, 5).requires_grad_()
    boxes = random_boxes(2, 12).requires_grad_()
    criterion: DenseCriterion = MODELS.build(dense_criterion('main', 1))
    for counts, taught in (([2, 0], [True, False]), ([0, 0], [False, False])):
        gt, predictions = random_gt(counts), dense(scores, boxes)
        losses = criterion.losses(predictions, criterion.assigner(predictions, gt), gt)
        gradient, _ = torch.autograd.grad(sum(losses.values()), [scores, boxes])
        assert [bool(image.any()) for image in gradient] == taught


def test_predictions_that_are_not_finite() -> None:
    """The weights are to blame for predictions, and the annotations for ground truths."""
    boxes, gt = random_boxes(1, 4), random_gt([1])
    assigner = MODELS.build(dense_criterion('main', 1)).assigner
    for blamed, predictions in ((boxes, True), (gt.boxes, False)):
        before = blamed[0].clone()
        blamed[0] = float('nan')
        with pytest.raises(NotFinite, match='dense predictions are' if predictions else 'ground-truth boxes') as caught:
            assigner(dense(torch.rand(1, 4, 5), boxes), gt)
        assert caught.value.predictions == predictions
        blamed[0] = before


def levels(batch: int = 2, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    return [torch.randn(batch, 16, 64 // stride, 96 // stride, dtype=dtype) for stride in (4, 8, 16)]


def small_head(**changes: object) -> DenseDistinctProposals:
    head = DenseDistinctProposals(**{**dict(num_classes=3, in_channels=16, strides=(8, 16), norm_groups=4), **changes})
    for module in head.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
    return head


def test_images_with_fewer_distinct_boxes_get_rows_of_zeros() -> None:
    head, feats = small_head(iou_threshold=0.3), levels()
    found = head.eval()(feats, torch.zeros(2, 1, 4))
    counts = found.main.kept.sum(1).tolist()
    assert counts[0] != counts[1] and found.boxes.shape[1] == max(counts) and found.auxiliary is None
    for image, count in enumerate(counts):
        assert not found.boxes[image, count:].any() and not found.queries[image, count:].any()
        torch.testing.assert_close(found.boxes[image, :count], found.main.boxes[image][found.main.kept[image]])
        best = found.main.scores[image][found.main.kept[image]].amax(-1)
        assert (best.diff() <= 0).all()
    few = small_head(iou_threshold=0.3, num_proposals=5)
    few.load_state_dict(head.state_dict())
    torch.testing.assert_close(few.eval()(feats, torch.zeros(2, 1, 4)).boxes, found.boxes[:, :5])


def test_a_level_gives_so_many_candidates_at_most() -> None:
    found = small_head(num_candidates=30)(levels(), torch.zeros(2, 1, 4))
    assert found.main.ids.shape == found.auxiliary.ids.shape == (2, 30 + 24)
    assert (found.auxiliary.ids[:, :30] < 96).all() and (found.auxiliary.ids[:, 30:] >= 96).all()
    assert all(ids.unique().numel() == 54 for ids in found.main.ids)


def test_a_new_head_finds_objects_nowhere() -> None:
    head = DenseDistinctProposals(num_classes=3, in_channels=16, strides=(8, 16), norm_groups=4)
    found = head(levels(), torch.zeros(2, 1, 4))
    assert found.main.scores.mean().item() == pytest.approx((0.01 * 0.5)**0.5, rel=0.05)
    assert found.auxiliary.scores.mean().item() == pytest.approx(0.01, rel=0.05)


def test_stages_do_not_train_the_dense_predictions() -> None:
    feats = [feat.requires_grad_() for feat in levels()]
    head = small_head()
    head(feats, torch.zeros(2, 1, 4)).queries.sum().backward()
    assert [name for name, parameter in head.named_parameters() if parameter.grad is not None] == [
        'compress.weight', 'compress.bias']
    assert all(feat.grad is None for feat in feats)


def tiny_detector() -> nn.Module:
    config = Config.fromfile(CONFIGS / 'ddq_rcnn_r18_digits.py')
    config.merge_from_dict({
        'model.backbone.base_channels': 8, 'model.neck.in_channels': [16, 32, 64], 'model.neck.out_channels': 16,
        'model.rpn_head.in_channels': 16, 'model.rpn_head.norm_groups': 4, 'model.rpn_head.num_classes': 3,
        'model.roi_head.bbox_head': dict(num_classes=3, in_channels=16, num_heads=2, feedforward_channels=32,
                                         dynamic_conv=dict(feat_channels=8))})
    torch.manual_seed(0)
    return MODELS.build(config.model)


@pytest.mark.parametrize('autocast', [False, True])
def test_every_parameter_gets_a_gradient(autocast: bool) -> None:
    """Others would make DistributedDataParallel wait; also in bfloat16."""
    model = tiny_detector().train()
    data = model.data_preprocessor(rectangles(2), True)
    with torch.autocast('cpu', torch.bfloat16, enabled=autocast):
        losses = model(**data, mode='loss')
    assert sorted(losses) == sorted([
        *(f'{part}.{key}' for part in ('ddq', 'ddq_aux') for key in ('loss_cls', 'loss_iou', 'candidates')),
        *(f'stages.s{stage}.loss_{kind}' for stage in range(2) for kind in ('bbox', 'cls', 'iou'))])
    sum(value for name, value in losses.items() if 'loss' in name).backward()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []


@pytest.mark.slow
def test_training_finds_rectangles() -> None:
    """Loss may rise with the quality that it trains scores towards, so the boxes are looked at."""
    model = tiny_detector().train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    data = model.data_preprocessor(rectangles(4), True)
    for _ in range(60):
        losses = model(**data, mode='loss')
        optimizer.zero_grad()
        sum(value for name, value in losses.items() if 'loss' in name).backward()
        optimizer.step()
    with torch.no_grad():
        proposals, _ = model.run_stages(data['inputs'], data['data_samples'])
    for sample, boxes in zip(data['data_samples'], proposals.boxes, strict=True):
        best = overlaps(boxes[:, None], sample.gt_instances.bboxes)[0].amax(0)
        assert (best > 0.5).all()  # both are proposed before any stage


def test_query_recollection_on_top() -> None:
    """SQR with DDQ's proposals: nobody has published it, and it is two words in a config."""
    plain, model = tiny_detector().train(), tiny_detector()
    config = Config.fromfile(CONFIGS / 'ddq_rcnn_r18_digits.py').model.roi_head
    config.type = 'RecollectingRoIHead'
    config.bbox_head = dict(type='DIIHead', num_classes=3, in_channels=16, num_heads=2, feedforward_channels=32,
                            dynamic_conv=dict(type='DynamicConv', feat_channels=8))
    model.roi_head = MODELS.build(config)
    model.load_state_dict(plain.state_dict())
    data = plain.data_preprocessor(rectangles(2), True)
    ours, wanted = (one.train()(**data, mode='loss') for one in (model, plain))
    torch.testing.assert_close(ours['stages.s0.loss_cls'], wanted['stages.s0.loss_cls'])
    assert ours['stages.s1.loss_cls'] > wanted['stages.s1.loss_cls']  # of two groups


def test_the_fast_form_finds_the_same() -> None:
    model, images = tiny_detector().eval(), torch.rand(2, 3, 64, 96)
    for ours, wanted in zip(fast_form(model)(images)[-1], model(images)[-1], strict=True):
        torch.testing.assert_close(ours, wanted, rtol=1e-4, atol=1e-3)


def test_the_published_size() -> None:
    """63.7 million parameters with 80 classes, and 0.2 that are for training only (here they stay)."""
    config = Config.fromfile(CONFIGS / 'ddq_rcnn_r50_1x.py').model
    config.backbone.init_cfg = None
    with torch.device('meta'):
        model = MODELS.build(config)
    sizes = {name: parameter.numel() for name, parameter in model.named_parameters()}
    training = sum(size for name, size in sizes.items() if '.aux_' in name)
    assert sum(sizes.values()) - training == pytest.approx(63.7e6, abs=1e5)
    assert training == pytest.approx(0.2e6, abs=3e4)


def test_levels_that_do_not_fit_are_named() -> None:
    with pytest.raises(UserError, match='2 levels from rpn_head.start_level 1 on, but rpn_head.strides names 3'):
        small_head(strides=(8, 16, 32))(levels(), torch.zeros(2, 1, 4))
    with pytest.raises(UserError, match="must be 'main' or 'auxiliary', not 'all'"):
        MODELS.build(dense_criterion('all', 1))


def test_ground_truth_may_be_anywhere() -> None:
    """Images in any order of many and none: each candidate's target is of its own image."""
    gt = random_gt([0, 3, 0, 2])
    boxes = torch.stack([random_boxes(9) for _ in range(4)])
    for image, own in enumerate(gt.boxes.split(gt.counts)):
        boxes[image, :len(own)] = own
    predictions = dense(torch.full((4, 9, 5), 0.5), boxes)
    criterion: DenseCriterion = MODELS.build(dense_criterion('main', 1))
    matched = criterion.assigner(predictions, gt)
    assert [row[row >= 0].tolist() for row in matched] == [[], [0, 1, 2], [], [0, 1]]
    assert criterion.losses(predictions, matched, gt)['loss_iou'].item() == pytest.approx(0, abs=1e-5)
