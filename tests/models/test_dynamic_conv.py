"""Dynamic convolution against a loop over RoIs and positions."""
import torch
import torch.nn.functional as F
from torch import Tensor

from sparse_rcnn_mm.models import DynamicConv

C, D, P = 6, 4, 3


def build() -> DynamicConv:
    module = DynamicConv(in_channels=C, feat_channels=D, input_feat_shape=P).double()
    for parameter in module.parameters():  # norms that scale and shift, so that a missing one shows
        torch.nn.init.normal_(parameter)
    return module


def by_loop(module: DynamicConv, query: Tensor, roi: Tensor) -> Tensor:
    """One query (C,) and its RoI (P*P, C), written down from section 3.3 of the paper."""
    numbers = module.dynamic_layer.weight @ query + module.dynamic_layer.bias
    out = []
    for position in roi:
        hidden = torch.stack([sum(position[c] * numbers[c * D + d] for c in range(C)) for d in range(D)])
        hidden = F.layer_norm(hidden, (D,), module.norm_in.weight, module.norm_in.bias).relu()
        result = torch.stack([sum(hidden[d] * numbers[C * D + d * C + c] for d in range(D)) for c in range(C)])
        out += F.layer_norm(result, (C,), module.norm_out.weight, module.norm_out.bias).relu()
    # Position by position: all channels of the first position come first.
    flat = module.fc_layer.weight @ torch.stack(out) + module.fc_layer.bias
    return F.layer_norm(flat, (C,), module.fc_norm.weight, module.fc_norm.bias).relu()


def test_equals_a_loop_with_position_major_flattening() -> None:
    module = build()
    queries, rois = torch.randn(5, C).double(), torch.randn(5, P * P, C).double()
    expected = torch.stack([by_loop(module, query, roi) for query, roi in zip(queries, rois, strict=True)])
    torch.testing.assert_close(module(queries, rois), expected)
    assert (expected > 0).any()


def test_equals_einsum() -> None:
    module = build()
    queries, rois = torch.randn(7, C).double(), torch.randn(7, P * P, C).double()
    numbers = module.dynamic_layer(queries)
    x = torch.einsum('mpc,mcd->mpd', rois, numbers[:, :C * D].reshape(-1, C, D))
    x = torch.einsum('mpd,mdc->mpc', module.norm_in(x).relu(), numbers[:, C * D:].reshape(-1, D, C))
    expected = module.fc_norm(module.fc_layer(module.norm_out(x).relu().reshape(7, -1))).relu()
    torch.testing.assert_close(module(queries, rois), expected)


def test_layout_of_the_kernels() -> None:
    """The first C*d numbers are the in-kernel (C, d), row by row, and the rest the out-kernel (d, C)."""
    module = DynamicConv(in_channels=C, feat_channels=D, input_feat_shape=P)
    with torch.no_grad():
        module.dynamic_layer.weight.zero_()
        module.dynamic_layer.bias.copy_(torch.arange(2 * C * D))
    kernel_in, kernel_out = module.kernels(torch.randn(2, C))
    assert kernel_in[1].tolist() == [[c * D + d for d in range(D)] for c in range(C)]
    assert kernel_out[1].tolist() == [[C * D + d * C + c for c in range(C)] for d in range(D)]


def test_a_query_meets_its_own_roi_only() -> None:
    module = build()
    queries, rois = torch.randn(4, C).double(), torch.randn(4, P * P, C).double()
    before = module(queries, rois)
    rois[2] += 1
    changed = (module(queries, rois) - before).abs().sum(1) > 0
    assert changed.tolist() == [False, False, True, False]
