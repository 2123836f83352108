"""Convolutions with fewer multiplications, against torch's own in float64."""
import copy

import pytest
import torch
from torch import Tensor, nn

from sparse_rcnn_mm.ops import convolutions, winograd_gradient
from sparse_rcnn_mm.ops.convolutions import FastConv2d, avoid_narrow_conv1x1, use_fast_conv2d

pytestmark = pytest.mark.skipif(not torch.backends.nnpack.is_available(), reason='PyTorch without NNPACK')


def results(conv: nn.Conv2d, x: Tensor) -> list[Tensor]:
    """The output of a convolution and all gradients of a weighted sum of it."""
    x = x.clone().requires_grad_()
    out = conv(x)
    out.backward(torch.randn(out.shape, generator=torch.Generator().manual_seed(1)).to(out.dtype))
    return [out.detach(), x.grad, conv.weight.grad, *([] if conv.bias is None else [conv.bias.grad])]


@pytest.mark.parametrize('size', [(30, 41), (31, 40), (33, 37), (32, 48), (14, 15)])  # the last is small for Winograd
@pytest.mark.parametrize('batch', [1, 3])
@pytest.mark.parametrize('stride', [1, 2])
@pytest.mark.parametrize('layout', [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize('channels', [72, 260])
@pytest.mark.parametrize('kernel', [1, 3])
def test_values_and_gradients(kernel, stride, batch, size, layout, channels, monkeypatch) -> None:
    torch.manual_seed(0)
    for module in (convolutions, winograd_gradient):
        monkeypatch.setattr(module, 'BAND_BYTES', 2**17)  # several bands an image
    conv = nn.Conv2d(64, channels, kernel, stride, padding=kernel // 2, bias=batch == 3).to(memory_format=layout)
    x = torch.randn(batch, 64, *size).to(memory_format=layout)
    wanted = results(copy.deepcopy(conv).double(), x.double())
    use_fast_conv2d(conv, kernel_sizes=(1, 3))
    assert type(conv) is FastConv2d
    for ours, theirs in zip(results(conv, x), wanted, strict=True):
        torch.testing.assert_close(ours.double(), theirs, rtol=0, atol=3e-5 * float(theirs.abs().max()))


@pytest.mark.parametrize('x', [
    torch.randn(1, 64, 8, 8), torch.randn(1, 64, 30, 30, dtype=torch.float64), torch.randn(1, 64, 30, 30).bfloat16()])
def test_others_are_torchs_own(x) -> None:
    conv = nn.Conv2d(64, 64, 3, padding=1).to(x.dtype)
    wanted = conv(x)
    use_fast_conv2d(conv, kernel_sizes=(1, 3))
    assert torch.equal(conv(x), wanted)


def test_autocast_keeps_its_dtype() -> None:
    conv = nn.Conv2d(64, 64, 3, padding=1)
    use_fast_conv2d(conv, kernel_sizes=(1, 3))
    with torch.autocast('cpu', torch.bfloat16):
        assert conv(torch.randn(1, 64, 30, 30)).dtype == torch.bfloat16


@pytest.mark.parametrize('settings', [
    dict(kernel_size=1, padding=1), dict(kernel_size=3, padding=1, stride=3), dict(kernel_size=3),
    dict(kernel_size=3, padding=1, groups=2), dict(kernel_size=3, padding=2, dilation=2),
    dict(kernel_size=3, padding=1, padding_mode='reflect')])
def test_what_stays(settings) -> None:
    net = nn.Sequential(nn.Conv2d(64, 64, **settings))
    use_fast_conv2d(net, kernel_sizes=(1, 3))
    assert type(net[0]) is nn.Conv2d


@pytest.mark.parametrize('channels', [3, 8])
@pytest.mark.parametrize('bias', [False, True])
def test_narrow_convolutions_do_not_end_the_process(channels: int, bias: bool) -> None:
    """oneDNN's own gradient of them does, with AVX-512 and channels-last."""
    torch.manual_seed(0)
    conv = nn.Conv2d(channels, 16, 1, stride=2, bias=bias).to(memory_format=torch.channels_last)
    x = torch.randn(2, channels, 25, 24).to(memory_format=torch.channels_last)
    wanted = results(copy.deepcopy(conv).double().to(memory_format=torch.contiguous_format), x.double().contiguous())
    avoid_narrow_conv1x1(conv)
    for ours, theirs in zip(results(conv, x), wanted, strict=True):
        torch.testing.assert_close(ours.double(), theirs, rtol=0, atol=3e-6 * float(theirs.abs().max()))


def test_wider_convolutions_stay() -> None:
    net = nn.Sequential(nn.Conv2d(16, 8, 1, stride=2), nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 1, 2, groups=2))
    avoid_narrow_conv1x1(net)
    assert {type(conv) for conv in net} == {nn.Conv2d}
