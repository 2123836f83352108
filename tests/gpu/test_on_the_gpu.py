"""The model on a GPU against the CPU, in float32, with AMP and compiled.

Skipped without a GPU. `CHECK_DEVICE=cpu pytest tests/gpu` runs the same checks on the CPU, to test the tests.
"""
from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterator

import pytest
import torch
from mmengine.config import Config
from torch import nn

from sparse_rcnn_mm.acceleration.prediction import fast_form
from sparse_rcnn_mm.acceleration.training import fast_training

from ..acceleration.test_prediction import trained
from ..kit import CONFIGS
from ..models.samples import rectangles

DEVICE = os.environ.get('CHECK_DEVICE', 'cuda')
pytestmark = pytest.mark.skipif(DEVICE == 'cuda' and not torch.cuda.is_available(), reason='needs a GPU')
NAMES = ('sparse_rcnn_r18_digits', 'adamixer_r18_digits', 'ddq_rcnn_r18_digits', 'sqr_r18_digits',
         'queryinst_r18_digits')


@pytest.fixture(autouse=True)
def exact_float32() -> Iterator[None]:
    """Without TF32, which PyTorch allows in cuDNN's convolutions."""
    with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
        yield


@pytest.fixture(scope='module', params=NAMES)
def model(request: pytest.FixtureRequest) -> nn.Module:
    return trained(Config.fromfile(CONFIGS / f'{request.param}.py').model)


@pytest.fixture(scope='module')
def plain() -> nn.Module:
    return trained(Config.fromfile(CONFIGS / f'{NAMES[0]}.py').model)


def raw(model: nn.Module, device: str, dtype: torch.dtype = torch.float32) -> list[torch.Tensor]:
    images = torch.randn(2, 3, 160, 224, generator=torch.Generator().manual_seed(0)).to(device, dtype)
    with torch.no_grad():
        return [tensor.cpu() for tensor in copy.deepcopy(model).to(device, dtype)(images)[-1][:2]]


def test_the_network_in_float64(model: nn.Module) -> None:
    for ours, wanted in zip(raw(model, DEVICE, torch.float64), raw(model, 'cpu', torch.float64), strict=True):
        torch.testing.assert_close(ours, wanted, rtol=1e-8, atol=1e-8)


def test_the_network_in_float32(plain: nn.Module) -> None:
    logits, boxes = raw(plain, DEVICE)
    wanted_logits, wanted_boxes = raw(plain, 'cpu')
    torch.testing.assert_close(logits, wanted_logits, rtol=0, atol=1e-3)
    torch.testing.assert_close(boxes, wanted_boxes, rtol=0, atol=2e-2)


def fast(**options: str | bool) -> Callable[[nn.Module], nn.Module]:
    return lambda model: fast_form(model, **options)


@pytest.mark.parametrize(('change', 'tolerance'), [
    (fast(), 1e-4), (fast(precision='bf16'), 0.05), (fast(precision='fp16'), 0.01),
    pytest.param(fast(compile=True), 1e-4, marks=pytest.mark.slow)], ids=['fp32', 'bf16', 'fp16', 'compiled'])
def test_the_fast_form(plain: nn.Module, change: Callable[[nn.Module], nn.Module], tolerance: float) -> None:
    """The length of the difference of the logits, as a share of their own."""
    on_device = change(copy.deepcopy(plain).to(DEVICE))
    images = torch.randn(2, 3, 160, 224, generator=torch.Generator().manual_seed(0)).to(DEVICE)
    with torch.no_grad():
        logits = on_device(images)[-1][0].float().cpu()
    wanted = raw(plain, 'cpu')[0]
    assert (logits - wanted).norm() <= tolerance * wanted.norm()


def step(model: nn.Module, device: str, dtype: torch.dtype) -> tuple[dict[str, torch.Tensor], list[torch.Tensor]]:
    """Losses and gradients of one batch, on the CPU."""
    model = fast_training(copy.deepcopy(model)).to(device, dtype).train()
    batch = model.data_preprocessor(rectangles(size=128), training=True)
    losses = model.loss(batch['inputs'].to(dtype), batch['data_samples'])
    sum(value for name, value in losses.items() if 'loss' in name).backward()
    return ({name: value.detach().cpu() for name, value in losses.items()},
            [parameter.grad.cpu() for parameter in model.parameters() if parameter.grad is not None])


def test_losses_and_gradients_in_float64(plain: nn.Module) -> None:
    losses, gradients = step(plain, DEVICE, torch.float64)
    wanted_losses, wanted_gradients = step(plain, 'cpu', torch.float64)
    torch.testing.assert_close(losses, wanted_losses, rtol=1e-5, atol=1e-6)
    for ours, wanted in zip(gradients, wanted_gradients, strict=True):
        torch.testing.assert_close(ours, wanted, rtol=0, atol=1e-4 * wanted.abs().max().item() + 1e-9)


def test_the_network_never_waits_for_the_host(plain: nn.Module) -> None:
    if DEVICE != 'cuda':
        pytest.skip('only CUDA tells')
    on_device, images = copy.deepcopy(plain).to(DEVICE), torch.randn(2, 3, 160, 224, device=DEVICE)
    on_device(images)
    torch.cuda.set_sync_debug_mode('error')
    try:
        with torch.no_grad():
            on_device(images)
    finally:
        torch.cuda.set_sync_debug_mode('default')
