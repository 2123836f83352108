"""The form that trains fastest gives the same losses and gradients, under the same names."""
import copy

import pytest
import torch
from torch import nn

from sparse_rcnn_mm.acceleration.training import FrozenBatchNorm2d, fast_training


def frozen(norm: nn.BatchNorm2d) -> nn.BatchNorm2d:
    norm.running_mean.normal_()
    norm.running_var.uniform_(0.5, 2.)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    return norm.eval().requires_grad_(False)


def test_frozen_batch_norm() -> None:
    torch.manual_seed(0)
    norm = frozen(nn.BatchNorm2d(5))
    x = torch.randn(2, 5, 4, 3, requires_grad=True)
    wanted = norm(x)
    gradient, = torch.autograd.grad(wanted.square().sum(), x)
    names = list(norm.state_dict())
    norm = fast_training(norm)
    assert type(norm) is FrozenBatchNorm2d and list(norm.state_dict()) == names
    torch.testing.assert_close(norm(x), wanted)
    torch.testing.assert_close(torch.autograd.grad(norm(x).square().sum(), x)[0], gradient)


@pytest.mark.parametrize('change', [lambda norm: norm.train(), lambda norm: norm.weight.requires_grad_()])
def test_a_batch_norm_that_is_trained_is_torchs(change) -> None:
    ours = frozen(nn.BatchNorm2d(5))
    change(ours)
    theirs = copy.deepcopy(ours)
    fast_training(ours)
    x = torch.randn(2, 5, 4, 3)
    assert torch.equal(ours(x), theirs(x))
    assert torch.equal(ours.running_mean, theirs.running_mean)


def test_keeps_half_of_the_activations() -> None:
    """A convolution, its norm and a ReLU keep the input and the output, and not what is between them."""
    net = nn.Sequential(nn.Conv2d(3, 4, 1), frozen(nn.BatchNorm2d(4)), nn.ReLU(inplace=True))

    def kept() -> int:
        sizes: dict[int, int] = {}
        with torch.autograd.graph.saved_tensors_hooks(
                lambda x: sizes.setdefault(x.data_ptr(), x.numel()) and x, lambda x: x):
            net(torch.randn(2, 3, 8, 8))
        return sum(sizes.values())

    before = kept()
    fast_training(net)
    assert before - kept() >= 4 * 2 * 8 * 8 - 4  # the norm's input; it keeps four numbers of its own
