"""The form that trains fastest gives the same losses and gradients, under the same names."""
import copy

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from sparse_rcnn_mm.acceleration.training import FoldedBatchNorm2d, fast_training, fold_fixed_norms
from sparse_rcnn_mm.models import DynamicConv


def fixed(norm: nn.BatchNorm2d) -> nn.BatchNorm2d:
    """With statistics that are not updated."""
    norm.running_mean.normal_()
    norm.running_var.uniform_(0.5, 2.)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    return norm.eval()


class Net(nn.Module):
    """A convolution, its norm and a ReLU, then a residual block with stride, as in ResNet."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 64, 1)
        self.conv, self.norm = nn.Conv2d(64, 64, 3, padding=1, bias=False), fixed(nn.BatchNorm2d(64))
        self.relu = nn.ReLU(inplace=True)
        self.conv2, self.norm2 = nn.Conv2d(64, 64, 3, 2, padding=1, bias=False), fixed(nn.BatchNorm2d(64))
        self.shortcut = nn.Sequential(nn.Conv2d(64, 64, 1, 2, bias=False), fixed(nn.BatchNorm2d(64)))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor]:
        x = self.relu(self.norm(self.conv(self.stem(x))))
        return (self.relu(self.norm2(self.conv2(x)) + self.shortcut(x)),)


def gradients(net: nn.Module, x: torch.Tensor) -> dict[str, torch.Tensor]:
    """Of a loss, by the name of the parameter, and of the image."""
    parameters = {name: value for name, value in net.named_parameters() if value.requires_grad}
    x = x.clone().requires_grad_()
    found = torch.autograd.grad(net(x)[0].square().mean(), [*parameters.values(), x])
    return dict(zip([*parameters, 'image'], found, strict=True))


def folded(net: nn.Module) -> list[str]:
    return [name for name, module in net.named_modules() if isinstance(module, FoldedBatchNorm2d) and module.folded]


@pytest.mark.parametrize('trained', [True, False])
def test_fixed_norms_are_folded(trained: bool) -> None:
    """Kernels, scales and shifts get the gradients that they had; frozen scales and shifts get none."""
    torch.manual_seed(0)
    net = Net().requires_grad_(trained)
    net.conv2.requires_grad_()
    x = torch.randn(2, 3, 40, 30)
    names, wanted, results = list(net.state_dict()), gradients(net, x), net(x)
    net = nn.ModuleDict({'backbone': net})
    fast = fast_training(copy.deepcopy(net)).backbone
    assert folded(fast) == ['norm', 'norm2', 'shortcut.1'] and list(fast.state_dict()) == names
    torch.testing.assert_close(fast(x), results, rtol=1e-5, atol=1e-4)
    found = gradients(copy.deepcopy(fast), x)  # as for averaged weights
    assert found.keys() == wanted.keys() and ('norm.bias' in wanted) is trained
    for name, gradient in wanted.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=1e-5 * gradient.abs().max().item(), msg=name)


def test_the_norm_of_a_copy_is_the_one_of_that_copy() -> None:
    net = Net()
    fold_fixed_norms(net)
    other = copy.deepcopy(net)
    other.norm.bias.data += 1
    x = torch.randn(1, 3, 8, 8)
    assert not torch.equal(other(x)[0], net(x)[0]) and other.conv.norm[0] is other.norm


def test_norms_that_are_trained_are_pytorchs() -> None:
    net = Net().train()
    theirs = copy.deepcopy(net)
    fold_fixed_norms(net)
    assert net.training and folded(net.eval()) and not folded(net.train())
    x = torch.randn(2, 3, 16, 16)
    assert torch.equal(net(x)[0], theirs(x)[0])
    assert torch.equal(net.norm.running_mean, theirs.norm.running_mean)


def test_autocast_rounds_as_before() -> None:
    net = Net()
    theirs = copy.deepcopy(net)
    fold_fixed_norms(net)
    x = torch.randn(1, 3, 16, 16)
    with torch.autocast('cpu', torch.bfloat16):
        assert not folded(net) and torch.equal(net(x)[0], theirs(x)[0])


class TwoReaders(Net):
    """The output of a convolution is read by more than its norm."""

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor]:
        x = self.conv(self.stem(x))
        return (self.norm(x) + x,)


def test_a_network_for_which_it_does_not_hold_is_not_changed() -> None:
    net = TwoReaders()
    before = torch.get_rng_state()
    fold_fixed_norms(net)
    assert not folded(net) and torch.equal(torch.get_rng_state(), before)


def kept(net: nn.Module, *inputs: torch.Tensor) -> int:
    """How many numbers autograd keeps when `net` runs."""
    sizes: dict[int, int] = {}
    with torch.autograd.graph.saved_tensors_hooks(
            lambda x: sizes.setdefault(x.data_ptr(), x.numel()) and x, lambda x: x):
        net(*inputs)
    return sum(sizes.values())


def test_keeps_half_of_the_activations() -> None:
    """A convolution, its norm and a ReLU keep the input and the output, and not what is between them."""
    net = nn.ModuleDict({'backbone': nn.Sequential(nn.Conv2d(3, 4, 1, bias=False), fixed(nn.BatchNorm2d(4)),
                                                   nn.ReLU(inplace=True))})

    image = torch.randn(2, 3, 8, 8)
    before = kept(net.backbone, image)
    fast_training(net)
    assert before - kept(net.backbone, image) >= 4 * 2 * 8 * 8 - 40  # the input of the norm; a few others stay


def test_a_network_without_such_norms_is_not_tried() -> None:
    class Never(nn.Sequential):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            raise AssertionError

    fold_fixed_norms(Never(nn.Conv2d(3, 4, 1), nn.SyncBatchNorm(4)))


@pytest.mark.parametrize(('autocast', 'whole_stage'), [(False, False), (True, False), (False, True)])
def test_dynamic_convolution_is_computed_again(autocast: bool, whole_stage: bool) -> None:
    """Gradients are the same to the last bit, and of what lies between the inputs and the result nothing is kept."""
    torch.manual_seed(0)
    plain = DynamicConv(in_channels=32, feat_channels=8, input_feat_shape=5)
    fast = fast_training(nn.ModuleList([copy.deepcopy(plain)]))[0]
    queries, roi_feats = torch.randn(40, 32, requires_grad=True), torch.randn(40, 25, 32, requires_grad=True)

    def found(conv: DynamicConv) -> list[torch.Tensor]:
        with torch.autocast('cpu', torch.bfloat16, enabled=autocast):
            result = (checkpoint(conv, queries, roi_feats, use_reentrant=False) if whole_stage  # as `with_cp` does
                      else conv(queries, roi_feats))
        return [result, *torch.autograd.grad(result.float().square().sum(), [queries, roi_feats, *conv.parameters()])]

    assert list(fast.state_dict()) == list(plain.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(found(fast), found(plain), strict=True))
    inside = 40 * 25 * (2 * 8 + 2 * 32)  # both results, and both after norm and ReLU
    difference = kept(plain, queries, roi_feats) - kept(fast, queries, roi_feats)
    assert difference >= inside + plain.fc_layer.weight.numel()  # which `checkpoint` does not keep either
    with torch.no_grad():
        assert torch.equal(fast(queries, roi_feats), plain(queries, roi_feats))
