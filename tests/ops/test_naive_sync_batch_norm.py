"""Batch norm over several processes against batch norm over the joined batch."""
import tempfile
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from mmengine.dist import all_reduce
from torch import Tensor, nn

from sparse_rcnn_mm.ops import naive_sync_batch_norm
from sparse_rcnn_mm.ops.naive_sync_batch_norm import NaiveSyncBatchNorm
from sparse_rcnn_mm.registry import MODELS

C = 5


def filled(module: nn.BatchNorm2d) -> nn.BatchNorm2d:
    with torch.no_grad():
        module.weight.copy_(torch.linspace(0.5, 2, C))
        module.bias.copy_(torch.linspace(-1, 1, C))
    return module


def batch_of(rank: int) -> Tensor:
    """Each process sees another mean and spread."""
    generator = torch.Generator().manual_seed(rank)
    return (rank + 1) * torch.randn(3, C, 4, 6, generator=generator) + 2 * rank


def target_of(rank: int) -> Tensor:
    return torch.randn(3, C, 4, 6, generator=torch.Generator().manual_seed(10 + rank))


def train_step(module: nn.BatchNorm2d, x: Tensor, target: Tensor) -> dict[str, Tensor]:
    x = x.clone().requires_grad_()
    out = module(x)
    (out * target).sum().backward()
    return dict(out=out.detach(), x_grad=x.grad, weight_grad=module.weight.grad, bias_grad=module.bias.grad,
                running_mean=module.running_mean, running_var=module.running_var, batches=module.num_batches_tracked)


@pytest.mark.parametrize('training', [True, False])
def test_in_one_process_it_is_batch_norm(training: bool) -> None:
    ours, theirs = filled(NaiveSyncBatchNorm(C)).train(training), filled(nn.BatchNorm2d(C)).train(training)
    for rank in range(2):
        for one, other in zip(train_step(ours, batch_of(rank), target_of(rank)).values(),
                              train_step(theirs, batch_of(rank), target_of(rank)).values(), strict=True):
            torch.testing.assert_close(one, other)


def test_statistics_are_those_of_the_joined_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """The other process is played by its moments."""
    other = batch_of(1)
    moments = torch.stack([other.mean((0, 2, 3)), other.square().mean((0, 2, 3))])
    monkeypatch.setattr(naive_sync_batch_norm, 'get_world_size', lambda: 2)
    monkeypatch.setattr(naive_sync_batch_norm, 'all_reduce', lambda mine: mine.add_(moments))
    ours, joined = filled(NaiveSyncBatchNorm(C)), filled(nn.BatchNorm2d(C))
    for _ in range(2):
        out, expected = ours(batch_of(0)), joined(torch.cat([batch_of(0), other]))
        torch.testing.assert_close(out, expected[:3], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(ours.running_mean, joined.running_mean)
    torch.testing.assert_close(ours.running_var, joined.running_var)
    ours.eval(), joined.eval()
    torch.testing.assert_close(ours(other), joined(other))


def test_under_autocast_statistics_stay_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """A convolution before it hands over bfloat16."""
    monkeypatch.setattr(naive_sync_batch_norm, 'get_world_size', lambda: 2)
    monkeypatch.setattr(naive_sync_batch_norm, 'all_reduce', lambda mine: mine.mul_(2))
    ours, theirs = filled(NaiveSyncBatchNorm(C)), filled(nn.BatchNorm2d(C))
    x = batch_of(1).bfloat16()
    with torch.autocast('cpu', dtype=torch.bfloat16):
        out, expected = ours(x), theirs(x)
    assert out.dtype == expected.dtype
    torch.testing.assert_close(out, expected, rtol=0.02, atol=0.02)
    torch.testing.assert_close(ours.running_mean, theirs.running_mean)
    # The unbiased variance divides by one pixel less, of both processes here and of one there.
    pixels = x.numel() // C
    torch.testing.assert_close((ours.running_var - 0.9) * (2 * pixels - 1) / (2 * pixels),
                               (theirs.running_var - 0.9) * (pixels - 1) / pixels)


def test_it_is_built_by_name() -> None:
    from mmcv.cnn import build_norm_layer
    from mmengine.registry import DefaultScope
    assert 'NaiveSyncBatchNorm' in MODELS.module_dict
    with DefaultScope.overwrite_default_scope('sparse_rcnn_mm'):
        name, layer = build_norm_layer(dict(type='NaiveSyncBatchNorm', requires_grad=True), C, postfix=1)
    assert name == 'bn1' and type(layer) is NaiveSyncBatchNorm


def work(rank: int, folder: str) -> None:
    """One process of two."""
    dist.init_process_group('gloo', init_method=f'file://{folder}/meet', rank=rank, world_size=2)
    result = train_step(filled(NaiveSyncBatchNorm(C)), batch_of(rank), target_of(rank))
    result['count'] = torch.tensor(3. + 4 * rank)
    all_reduce(result['count'], op='mean')  # as the criterion does
    torch.save(result, f'{folder}/{rank}.pt')
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_processes_equal_one_batch_norm_over_the_joined_batch() -> None:
    with tempfile.TemporaryDirectory() as folder:
        torch.multiprocessing.spawn(work, (folder,), nprocs=2)
        first, second = (torch.load(Path(folder) / f'{rank}.pt') for rank in range(2))
    joined = filled(nn.BatchNorm2d(C))
    expected = train_step(joined, torch.cat([batch_of(0), batch_of(1)]), torch.cat([target_of(0), target_of(1)]))
    for key in ('out', 'x_grad'):
        torch.testing.assert_close(torch.cat([first[key], second[key]]), expected[key], rtol=1e-4, atol=1e-5)
    for key in ('weight_grad', 'bias_grad'):
        torch.testing.assert_close(first[key] + second[key], expected[key], rtol=1e-4, atol=1e-4)
    for key in ('running_mean', 'running_var', 'batches'):
        torch.testing.assert_close(first[key], expected[key])
        torch.testing.assert_close(second[key], first[key])
    assert first['count'] == second['count'] == 5  # the mean of 3 and 7
