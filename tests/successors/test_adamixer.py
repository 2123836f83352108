"""What AdaMixer's parts do, beside the dumped numbers."""
from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from mmengine.config import Config, ConfigDict
from torch import Tensor, nn

from sparse_rcnn_mm.acceleration.prediction import fast_form
from sparse_rcnn_mm.checkpoints.loading import load_contents
from sparse_rcnn_mm.errors import UserError
from sparse_rcnn_mm.models.adamixer import AdaMixerStage, PointSampler, WholeImageProposals, XYZRProposals
from sparse_rcnn_mm.models.adamixer.adamixer_stage import intersection_over_first
from sparse_rcnn_mm.models.adamixer.xyzr import boxes_of, move, xyzr_of
from sparse_rcnn_mm.models.structures import Proposals
from sparse_rcnn_mm.registry import MODELS
from tests.kit import CONFIGS
from tests.models.samples import random_boxes, rectangles

STRIDES = (4, 8, 16)
SMALL = dict(num_classes=3, in_channels=16, num_heads=2, feedforward_channels=32, groups=2, in_points=6, out_points=5)


def levels(batch: int = 2, channels: int = 16, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    return [torch.randn(batch, channels, 64 // stride, 96 // stride, dtype=dtype).requires_grad_()
            for stride in STRIDES]


def small_stage(**changes: int) -> AdaMixerStage:
    """A stage in which everything depends on the query, as it does after some training."""
    stage = AdaMixerStage(**{**SMALL, **changes})
    for parameter in stage.parameters():
        if parameter.dim() > 1:
            nn.init.normal_(parameter, std=0.1)
    return stage


def by_grid_sample(feats: list[Tensor], points: Tensor, groups: int) -> Tensor:
    """As the paper's code computes it: every level whole, weighted afterwards."""
    fits = torch.stack([-(points[..., 2] - torch.tensor(float(stride)).log2())**2 / 2 for stride in STRIDES]).softmax(0)
    total = 0
    for feat, stride, weight in zip(feats, STRIDES, fits, strict=True):
        size = torch.tensor([feat.shape[3], feat.shape[2]], dtype=feat.dtype) * stride
        grid = (2 * points[..., :2] / size - 1).movedim(2, 1).flatten(0, 1)  # (B*G, N, P, 2)
        found = F.grid_sample(feat.unflatten(1, (groups, -1)).flatten(0, 1), grid, align_corners=False)
        total = total + found.unflatten(0, (-1, groups)).permute(0, 3, 1, 4, 2) * weight[..., None]
    return total.flatten(0, 1)


def test_the_part_of_a_box_that_another_covers() -> None:
    """Of 4 and of 8 square pixels, the same 2; the third box touches the first, and the last has no area."""
    boxes = torch.tensor([[[0., 0, 2, 2], [1, 0, 3, 4], [2, 0, 4, 1], [1, 1, 1, 1]]])
    wanted = [[1, 1 / 2, 0, 0], [1 / 4, 1, 1 / 8, 0], [0, 1 / 2, 1, 0], [0, 0, 0, 0]]
    torch.testing.assert_close(intersection_over_first(boxes), torch.tensor([wanted]))


@pytest.mark.parametrize('batch', [1, 2])
def test_sampling_is_bilinear_on_every_level(batch: int) -> None:
    """Values, and gradients of features and points, also outside the image."""
    feats = levels(batch)
    points = torch.rand(batch, 7, 2, 5, 3, dtype=torch.float64) * torch.tensor([160, 120, 9])
    points = (points - torch.tensor([30, 30, 1])).requires_grad_()
    ours = PointSampler(strides=STRIDES, groups=2)(feats).sample(points)
    wanted = by_grid_sample(feats, points, 2)
    torch.testing.assert_close(ours, wanted, rtol=1e-9, atol=1e-9)
    weight = torch.randn_like(ours)
    of_ours, of_wanted = (torch.autograd.grad((x * weight).sum(), [*feats, points]) for x in (ours, wanted))
    for a, b in zip(of_ours, of_wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-9)


def test_groups_of_rows_read_their_own_image() -> None:
    feats, points = levels(2), torch.rand(6, 4, 2, 3, 3, dtype=torch.float64) * 60
    pyramid = PointSampler(strides=STRIDES, groups=2)(feats)
    together = pyramid.sample(points).unflatten(0, (6, 4))
    for row in range(6):
        alone = PointSampler(strides=STRIDES, groups=2)([feat[row % 2:row % 2 + 1] for feat in feats])
        torch.testing.assert_close(together[row], alone.sample(points[row:row + 1]))


@pytest.mark.parametrize('far', [1e30, float('inf'), float('nan')])
def test_points_that_are_nowhere_read_nothing_outside_the_table(far: float) -> None:
    points = torch.full((1, 1, 2, 1, 3), far)
    feats = [feat.float() for feat in levels(1)]
    found = PointSampler(strides=STRIDES, groups=2)(feats).sample(points)
    assert found.shape == (1, 2, 1, 8)
    assert far != 1e30 or (found.isnan() | (found == 0)).all()


def test_boxes_and_states_are_the_same_thing() -> None:
    boxes = random_boxes(2, 9, dtype=torch.float64)
    state = xyzr_of(Proposals(boxes, boxes))
    torch.testing.assert_close(boxes_of(state), boxes)
    # 2 wide and 8 high: scale 4 = 2^2, ratio 4 = 2^2; one step to the right of a quarter of the scale; twice as large.
    state = xyzr_of(Proposals(torch.tensor([[[10., 20., 12., 28.]]]), boxes))
    torch.testing.assert_close(state, torch.tensor([[[11., 24., 2., 2.]]]))
    moved = move(state, torch.tensor([0.25, 0., 1., 0.]))
    torch.testing.assert_close(boxes_of(moved), torch.tensor([[[10., 16., 14., 32.]]]))


def test_boxes_without_area_stay_finite() -> None:
    """DDQ fills up its proposals with such."""
    state = xyzr_of(Proposals(torch.zeros(1, 1, 4), torch.zeros(1, 1, 8)))
    assert state.isfinite().all() and (boxes_of(state).abs() < 1e-2).all()


@pytest.mark.parametrize('scale', [-10., 12.])
def test_tiny_and_huge_boxes_in_float32(scale: float) -> None:
    """2^-10 and 2^12 pixels: what float64 says."""
    stage, feats = small_stage(), levels()
    state = torch.cat([torch.rand(2, 5, 2) * 60, torch.full((2, 5, 1), scale) + torch.rand(2, 5, 1),
                       torch.randn(2, 5, 1)], dim=-1)
    queries, results = torch.randn(2, 5, 16), []
    for dtype in (torch.float32, torch.float64):
        pyramid = PointSampler(strides=STRIDES, groups=2)([feat.detach().to(dtype) for feat in feats])
        start = XYZRProposals(boxes_of(state.to(dtype)), queries.to(dtype), state.to(dtype))
        results.append(copy.deepcopy(stage).to(dtype)(pyramid, start))
    torch.testing.assert_close(results[0].logits.double(), results[1].logits, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(results[0].boxes.double(), results[1].boxes, atol=1e-3, rtol=1e-4)


def test_a_new_stage_leaves_boxes_alone_and_looks_around() -> None:
    stage = AdaMixerStage(num_classes=3, in_channels=256)
    pyramid = PointSampler(strides=STRIDES)(levels(1, 256, torch.float32))
    start = WholeImageProposals(num_proposals=4)([], torch.tensor([[[96., 64., 96., 64.]]]))
    torch.testing.assert_close(stage(pyramid, start).boxes, start.boxes, rtol=0, atol=1e-4)
    points = stage.sampling_n_mixing.points(start.queries, start.xyzr)
    assert (points[0] == points[0, :1]).all()  # the same for every query
    inside = points[..., :2] / torch.tensor([96., 64.])
    assert 0 <= inside.min() < 0.1 and 0.9 < inside.max() <= 1  # all over the box
    torch.testing.assert_close(points[..., 2], (start.xyzr[..., 2] - 1)[..., None, None].expand(1, 4, 4, 32))
    assert 0 <= stage.iof_tau.min() and stage.iof_tau.max() <= 4
    assert stage.fc_cls.bias.sigmoid().tolist() == pytest.approx([0.01] * 3)
    assert not stage.sampling_n_mixing.adaptive_mixing.parameter_generator[0].weight.any()


def test_a_square_number_of_points_starts_as_a_grid() -> None:
    bias = small_stage(in_points=4).sampling_n_mixing.sampling_offset_generator[0].bias.view(2, 4, 3)
    assert bias[1].tolist() == [[-.25, -.25, -1], [.25, -.25, -1], [-.25, .25, -1], [.25, .25, -1]]


def tiny_config() -> ConfigDict:
    config = Config.fromfile(CONFIGS / 'adamixer_r18_digits.py')
    config.merge_from_dict({
        'model.backbone.base_channels': 8, 'model.neck.in_channels': [16, 32, 64], 'model.neck.out_channels': 16,
        'model.rpn_head.proposal_feature_channel': 16, 'model.rpn_head.num_proposals': 6,
        'model.roi_head.num_stages': 2, 'model.roi_head.roi_extractor.groups': 2, 'model.roi_head.bbox_head': SMALL})
    return config.model


def tiny_detector() -> nn.Module:
    torch.manual_seed(0)
    model = MODELS.build(tiny_config())
    for stage in model.roi_head.bbox_head:
        stage.load_state_dict(small_stage().state_dict())
    return model


@pytest.mark.parametrize('checkpointing', [False, True])
def test_every_parameter_that_asks_for_a_gradient_gets_one(checkpointing: bool) -> None:
    """Others would make DistributedDataParallel wait."""
    model = tiny_detector().train()
    model.roi_head.with_cp = checkpointing
    losses = model(**model.data_preprocessor(rectangles(2), True), mode='loss')
    assert sorted(losses) == [f's{stage}.loss_{kind}' for stage in range(2) for kind in ('bbox', 'cls', 'iou')]
    sum(losses.values()).backward()
    frozen = [name for name, parameter in model.named_parameters() if parameter.grad is None]
    assert frozen == ['rpn_head.init_proposal_bboxes.weight']
    assert not model.rpn_head.init_proposal_bboxes.weight.requires_grad


def test_on_the_meta_device() -> None:
    """No tensor is made on another device, and nothing waits for the host."""
    with torch.device('meta'):
        model = MODELS.build(tiny_config()).eval()
    sizes = torch.empty(2, 1, 4, device='meta')
    found = model.detect(torch.empty(2, 3, 64, 96, device='meta'), sizes, sizes)
    assert found.boxes.is_meta and found.boxes.shape == (2, 6, 4)


def test_training_steps_make_the_loss_fall() -> None:
    model = tiny_detector().train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    data = model.data_preprocessor(rectangles(4), True)
    totals = []
    for _ in range(40):
        total = sum(model(**data, mode='loss').values())
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        totals.append(total.item())
    assert totals[-1] < 0.7 * totals[0]


def test_training_in_bfloat16() -> None:
    model = tiny_detector().train()
    data = model.data_preprocessor(rectangles(2), True)
    wanted = sum(model(**data, mode='loss').values())
    with torch.autocast('cpu', torch.bfloat16):
        stages = model.run_stages(data['inputs'], data['data_samples'])[1]
        losses = sum(model(**data, mode='loss').values())
    assert stages[-1].boxes.dtype == stages[-1].xyzr.dtype == torch.float32
    assert losses.item() == pytest.approx(wanted.item(), rel=0.1)
    losses.backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters() if parameter.requires_grad)


def test_the_fast_form_finds_the_same() -> None:
    model, images = tiny_detector().eval(), torch.rand(2, 3, 64, 96)
    fast = fast_form(model)
    assert [stage[0].shape[-1] for stage in fast(images)] == [0, 3]  # its first stage has no classifier
    for ours, wanted in zip(fast(images)[-1], model(images)[-1], strict=True):
        torch.testing.assert_close(ours, wanted, rtol=1e-4, atol=1e-3)


def test_a_released_checkpoint_loads() -> None:
    """They call the neck's convolutions otherwise."""
    model = tiny_detector()
    state = {name.replace('neck.convs.', 'neck.lateral_convs.'): torch.full_like(value, 3)
             for name, value in model.state_dict().items()}
    assert load_contents(model, {'state_dict': state}, 'released.pth').complete
    assert (model.neck.convs[0].conv.weight == 3).all()


def test_the_published_size() -> None:
    """134.8 million parameters with 80 classes."""
    config = Config.fromfile(CONFIGS / 'adamixer_r50_1x.py').model
    config.backbone.init_cfg = None
    with torch.device('meta'):
        assert sum(p.numel() for p in MODELS.build(config).parameters()) == pytest.approx(134.8e6, abs=1e5)


def test_numbers_that_do_not_fit_are_named() -> None:
    feats = levels()
    with pytest.raises(UserError, match='gives 3 levels, but roi_extractor.strides names 2'):
        PointSampler(strides=(4, 8), groups=2)(feats)
    with pytest.raises(UserError, match='16 channels, which do not divide into 3 groups'):
        PointSampler(strides=STRIDES, groups=3)(feats)
    with pytest.raises(UserError, match='samples 2 groups of points, but roi_extractor.groups is 4'):
        PointSampler(strides=STRIDES, groups=4)(feats).sample(torch.zeros(1, 1, 2, 1, 3, dtype=torch.float64))
