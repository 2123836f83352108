"""The linear layer of many outputs, against torch's own in float64."""
import pytest
import torch
import torch.nn.functional as F

from sparse_rcnn_mm.ops.wide_linear import PANEL, wide_linear


@pytest.mark.parametrize('outputs', [40, 2 * PANEL, 2 * PANEL + 100])
@pytest.mark.parametrize('rows', [1, 30])
def test_values_and_gradients(rows, outputs) -> None:
    torch.manual_seed(0)
    inputs = [torch.randn(rows, 24), torch.randn(outputs, 24), torch.randn(outputs)]
    weights = torch.randn(rows, outputs)
    results = []
    for linear, dtype in ((wide_linear, torch.float32), (F.linear, torch.float64)):
        leaves = [x.clone().to(dtype).requires_grad_() for x in inputs]
        out = linear(*leaves)
        out.backward(weights.to(dtype))
        results.append([out.detach(), *(leaf.grad for leaf in leaves)])
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours.double(), theirs, rtol=0, atol=1e-6 * float(theirs.abs().max()))


def test_frozen_weights_get_no_gradient() -> None:
    x, weight, bias = torch.randn(3, 8, requires_grad=True), torch.randn(40, 8), torch.randn(40)
    wide_linear(x, weight, bias).sum().backward()
    torch.testing.assert_close(x.grad, weight.sum(dim=0).expand(3, 8))
    assert weight.grad is None and bias.grad is None


def test_a_slice_of_the_weights() -> None:
    weight, bias = torch.randn(80, 8, requires_grad=True), torch.randn(80, requires_grad=True)
    x = torch.randn(3, 8)
    wide_linear(x, weight[40:], bias[40:]).sum().backward()
    torch.testing.assert_close(weight.grad, torch.cat([torch.zeros(40, 8), x.sum(dim=0).expand(40, 8)]))
    assert bias.grad.tolist() == [0.] * 40 + [3.] * 40


def test_strided() -> None:
    x, weight, bias = torch.randn(8, 6).T, torch.randn(8, 40).T, torch.randn(80)[::2]
    torch.testing.assert_close(wide_linear(x, weight, bias), F.linear(x, weight, bias))


def test_other_precisions_are_torchs_own() -> None:
    x, weight, bias = torch.randn(3, 8), torch.randn(40, 8), torch.randn(40)
    assert torch.equal(wide_linear(x.double(), weight.double(), bias.double()),
                       F.linear(x.double(), weight.double(), bias.double()))
    with torch.autocast('cpu', torch.bfloat16):
        assert wide_linear(x, weight, bias).dtype == torch.bfloat16


def test_compiled() -> None:
    x, weight, bias = torch.randn(3, 8), torch.randn(40, 8, requires_grad=True), torch.randn(40)
    compiled = torch.compile(wide_linear, fullgraph=True, backend='aot_eager')
    compiled(x, weight, bias).sum().backward()
    torch.testing.assert_close(weight.grad, x.sum(dim=0).expand(40, 8))
