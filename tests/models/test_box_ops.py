"""Box operations: hand-worked numbers, degenerate boxes, dtypes."""
import math

import pytest
import torch
from torch import Tensor

from sparse_rcnn_mm.models.box_ops import MAX_LOG_SCALE, at_least_float32, cxcywh_to_xyxy, decode_boxes, overlaps

from .samples import random_boxes

WEIGHTS = (2., 2., 1., 1.)


def close(actual: Tensor, expected: list) -> None:
    torch.testing.assert_close(actual, torch.tensor(expected, dtype=actual.dtype))


def test_centre_and_size_to_corners() -> None:
    close(cxcywh_to_xyxy(torch.tensor([[0.5, 0.5, 1., 1.], [10., 20., 4., 6.]])),
          [[0., 0., 1., 1.], [8., 17., 12., 23.]])


def test_decode_by_hand() -> None:
    boxes = torch.tensor([[10., 20., 30., 60.]]).expand(4, 4)  # centre (20, 40), size 20 x 40
    deltas = torch.tensor([[0., 0., 0., 0.],
                           [2., 0., 0., 0.],  # 2 / 2 widths to the right
                           [0., -1., 0., 0.],  # 1 / 2 heights up
                           [0., 0., math.log(2), math.log(0.5)]])
    close(decode_boxes(boxes, deltas, WEIGHTS),
          [[10., 20., 30., 60.], [30., 20., 50., 60.], [10., 0., 30., 40.], [0., 30., 40., 50.]])


def test_decode_divides_by_its_weights() -> None:
    box, deltas = torch.tensor([[0., 0., 8., 8.]]), torch.tensor([[1., 2., 3., 4.]])
    torch.testing.assert_close(decode_boxes(box, deltas, (10., 10., 5., 5.)),
                               decode_boxes(box, deltas / torch.tensor([10., 10., 5., 5.]), (1., 1., 1., 1.)))


def test_size_is_clamped_from_above_only() -> None:
    box = torch.tensor([0., 0., 16., 16.], dtype=torch.float64)
    huge = decode_boxes(box, box.new_tensor([0., 0., MAX_LOG_SCALE + 1, 1000.]), WEIGHTS)
    torch.testing.assert_close(huge[2:] - huge[:2], box.new_tensor([100_000., 100_000.]))
    tiny = decode_boxes(box, box.new_tensor([0., 0., -20., 0.]), WEIGHTS)
    torch.testing.assert_close(tiny[2] - tiny[0], box.new_tensor(16 * math.exp(-20.)), rtol=1e-5, atol=0)


def test_decode_broadcasts_and_equals_box_by_box() -> None:
    boxes, deltas = random_boxes(2, 1, 3), torch.randn(5, 3, 4)
    together = decode_boxes(boxes, deltas, WEIGHTS)
    assert together.shape == (2, 5, 3, 4)
    for i, j, k in [(0, 0, 0), (1, 4, 2), (0, 3, 1)]:
        torch.testing.assert_close(together[i, j, k], decode_boxes(boxes[i, 0, k], deltas[j, k], WEIGHTS))


@pytest.mark.parametrize(('dtype', 'result'), [
    (torch.float16, torch.float32), (torch.bfloat16, torch.float32), (torch.float32, torch.float32),
    (torch.float64, torch.float64)])
def test_half_precision_is_raised_to_float32_and_double_kept(dtype: torch.dtype, result: torch.dtype) -> None:
    x = torch.tensor([1., 2., 3., 4.], dtype=dtype)
    assert at_least_float32(x).dtype == result
    assert decode_boxes(x, torch.zeros(4, dtype=dtype), WEIGHTS).dtype == result


def test_half_precision_deltas_decode_like_the_same_numbers_in_float32() -> None:
    boxes, deltas = random_boxes(50, width=1300, height=800), torch.randn(50, 4).bfloat16()
    torch.testing.assert_close(decode_boxes(boxes, deltas, WEIGHTS), decode_boxes(boxes, deltas.float(), WEIGHTS),
                               rtol=0, atol=0)


UNIT = [0., 0., 2., 2.]
CASES = [  # other box, IoU, GIoU
    ([0., 0., 2., 2.], 1., 1.),
    ([1., 1., 3., 3.], 1 / 7, 1 / 7 - 2 / 9),  # half overlap in both: hull 9, union 7
    ([2., 0., 4., 2.], 0., 0.),  # touching along an edge: the hull is the union
    ([2., 2., 4., 4.], 0., -0.5),  # touching at a corner: hull 16, union 8
    ([4., 0., 6., 2.], 0., -1 / 3),  # disjoint: hull 12, union 8
    ([0.5, 0.5, 1.5, 1.5], 0.25, 0.25),  # contained: the hull is the union
    ([1., 1., 1., 1.], 0., 0.),  # a point inside
    ([4., 4., 4., 4.], 0., -0.75),  # a point outside: hull 16, union 4
    ([3., 0., 1., 2.], 0., 0.),  # negative width counts as empty; the hull is the unit box itself
]


@pytest.mark.parametrize(('other', 'iou', 'giou'), CASES)
def test_overlaps_by_hand_in_both_directions(other: list, iou: float, giou: float) -> None:
    a, b = torch.tensor(UNIT), torch.tensor(other)
    for pair in [(a, b), (b, a)]:
        found = overlaps(*pair)
        close(found[0], iou)
        close(found[1], giou)


@pytest.mark.parametrize(('a', 'b'), [
    ([1., 1., 1., 1.], [1., 1., 1., 1.]),  # two equal points
    ([0., 0., 0., 5.], [3., 3., 3., 3.]),  # a line and a point, hull with area
    ([0., 0., 0., 5.], [0., 2., 0., 9.]),  # two lines, hull without area
    ([5., 5., 1., 1.], [4., 4., 2., 2.]),  # negative sizes
    (UNIT, [2., 0., 4., 2.]), (UNIT, UNIT), (UNIT, [1., 1., 1., 1.])])
def test_values_and_gradients_are_finite_where_areas_vanish(a: list, b: list) -> None:
    first, second = torch.tensor(a, requires_grad=True), torch.tensor(b, requires_grad=True)
    iou, giou = overlaps(first, second)
    assert 0 <= iou <= 1 and -1 <= giou <= iou
    (iou + giou).backward()
    assert first.grad.isfinite().all() and second.grad.isfinite().all()


def test_two_empty_boxes_have_no_overlap() -> None:
    point, far = torch.tensor([1., 1., 1., 1.]), torch.tensor([4., 5., 4., 5.])
    assert overlaps(point, point) == (0., 0.)
    assert overlaps(point, far) == (0., -1.)  # all of the hull is outside both


def test_overlaps_broadcast_and_agree_with_counting_pixels() -> None:
    """On whole-number boxes areas are numbers of pixels."""
    corners = torch.randint(0, 12, (6, 2, 2)).sort(dim=1).values
    corners[:, 1] += 1
    boxes = corners.flatten(1)
    grid = torch.stack(torch.meshgrid(torch.arange(14), torch.arange(14), indexing='xy'), -1)
    masks = ((grid >= boxes[:, None, None, :2]) & (grid < boxes[:, None, None, 2:])).all(-1)
    iou, giou = overlaps(boxes[:, None].double(), boxes.double())
    assert iou.shape == (6, 6)
    for i in range(6):
        for j in range(6):
            inter, union = int((masks[i] & masks[j]).sum()), int((masks[i] | masks[j]).sum())
            y, x = torch.where(masks[i] | masks[j])
            hull = int((x.max() - x.min() + 1) * (y.max() - y.min() + 1))
            assert iou[i, j].item() == pytest.approx(inter / union)
            assert giou[i, j].item() == pytest.approx(inter / union - (hull - union) / hull)


def test_overlaps_do_not_change_when_boxes_move_and_scale_together() -> None:
    a, b = random_boxes(40, dtype=torch.float64), random_boxes(40, dtype=torch.float64)
    for moved, still in zip(overlaps(a * 7 - 300, b * 7 - 300), overlaps(a, b), strict=True):
        torch.testing.assert_close(moved, still)


def test_gradient_of_overlaps() -> None:
    a = random_boxes(8, dtype=torch.float64).requires_grad_()
    b = random_boxes(8, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(overlaps, (a, b), eps=1e-4)


def test_gradient_of_decoding() -> None:
    boxes = random_boxes(5, dtype=torch.float64)
    deltas = torch.randn(5, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda d: decode_boxes(boxes, d, WEIGHTS), (deltas,))
