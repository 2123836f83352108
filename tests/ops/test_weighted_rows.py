"""Sums of rows and their gradients, against plain indexing."""
import pytest
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from sparse_rcnn_mm.ops.weighted_rows import WeightedRows


def plain(rows: Tensor, index: Tensor, weight: Tensor) -> Tensor:
    return (rows[index] * weight[..., None]).sum(1)


def three_sums(rows: Tensor, sums) -> Tensor:
    """A number that depends on three sums, each of which the next one depends on through its weights only."""
    torch.manual_seed(1)
    total = rows.new_zeros(())
    for size in (4, 1, 7):
        index, weight = torch.randint(len(rows), (size, 5)), torch.randn(size, 5, dtype=rows.dtype)
        total = total + (sums(index, weight) ** 2).sum()
    return total


@pytest.mark.parametrize('mkl', [True, False])
def test_values_and_gradients(mkl, monkeypatch) -> None:
    if not mkl:  # plain autograd, as on a GPU
        monkeypatch.setattr(torch.backends.mkl, 'is_available', lambda: False)
    torch.manual_seed(0)
    rows = torch.randn(9, 3, dtype=torch.float64, requires_grad=True)
    total = three_sums(rows, lambda index, weight: plain(rows, index, weight))
    wanted, = torch.autograd.grad(total, rows)
    table = WeightedRows(rows * 1)
    ours = three_sums(rows, table.sums)
    torch.testing.assert_close(ours, total)
    for _ in range(2):  # a second backward pass starts anew
        torch.testing.assert_close(torch.autograd.grad(ours, rows, retain_graph=True)[0], wanted)


def test_gradients_of_the_weights() -> None:
    torch.manual_seed(0)
    rows, index = torch.randn(9, 3, dtype=torch.float64, requires_grad=True), torch.randint(9, (4, 5))
    weight = torch.randn(4, 5, dtype=torch.float64, requires_grad=True)
    wanted = torch.autograd.grad((plain(rows, index, weight)**2).sum(), [rows, weight])
    ours = torch.autograd.grad((WeightedRows(rows).sums(index, weight)**2).sum(), [rows, weight])
    torch.testing.assert_close(ours, wanted)


def test_a_sum_that_nothing_depends_on() -> None:
    rows = torch.randn(6, 2, requires_grad=True)
    table = WeightedRows(rows)
    index = torch.tensor([[0, 0], [5, 1]])
    table.sums(index, torch.ones(2, 2))
    used = table.sums(index, torch.tensor([[1., 2.], [3., 4.]]))
    gradient, = torch.autograd.grad(used[:, 0].sum(), rows)
    assert gradient.tolist() == [[3, 0], [4, 0], [0, 0], [0, 0], [0, 0], [3, 0]]


def test_under_checkpointing() -> None:
    rows = torch.randn(9, 3, dtype=torch.float64, requires_grad=True)
    wanted, = torch.autograd.grad(three_sums(rows, WeightedRows(rows).sums), rows)
    table = WeightedRows(rows)
    total = three_sums(rows, lambda index, weight: checkpoint(table.sums, index, weight, use_reentrant=False))
    torch.testing.assert_close(torch.autograd.grad(total, rows)[0], wanted)


def test_half_precision_adds_up_in_float32() -> None:
    """Two gradients of 256 and 1 at the same row: bfloat16 alone would leave 256."""
    rows = torch.ones(2, 1, dtype=torch.bfloat16, requires_grad=True)
    table = WeightedRows(rows)
    one, index = torch.ones(1, 1), torch.zeros(1, 1, dtype=torch.long)
    (table.sums(index, 256 * one) + table.sums(index, one) + table.sums(index, one)).sum().backward()
    assert rows.grad.dtype == torch.bfloat16 and rows.grad.tolist() == [[258.], [0.]]


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
def test_without_gradient(dtype) -> None:
    rows = torch.arange(6.).view(3, 2).to(dtype)
    sums = WeightedRows(rows).sums(torch.tensor([[0, 2]]), torch.tensor([[1., 0.5]]))
    assert sums.dtype == dtype and sums.tolist() == [[2., 3.5]]
