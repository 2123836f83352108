"""Parts of other networks in the form for export, against their own."""
from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from mmdet.models.backbones.swin import ShiftWindowMSA
from torch import Tensor, nn

from sparse_rcnn_mm.export.forms import use_forms
from sparse_rcnn_mm.export.onnx_file import OPSET, quiet
from sparse_rcnn_mm.export.open_sizes import ExportedAveragePool
from sparse_rcnn_mm.export.tracing import Tracing
from sparse_rcnn_mm.registry import MODELS

SWIN = dict(type='mmdet.SwinTransformer', embed_dims=8, depths=(2, 2), num_heads=(1, 2), strides=(4, 2),
            out_indices=(0, 1))


def with_random_weights(module: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    for value in module.parameters():
        nn.init.normal_(value, std=.3)
    module.eval()  # Swin's returns None
    return module.requires_grad_(False)


def in_export_form(module: nn.Module) -> nn.Module:
    module = copy.deepcopy(module)
    use_forms(module)
    return module


@pytest.mark.parametrize('shift', [0, 1, 3, 6])
@pytest.mark.parametrize('size', [(14, 21), (10, 17), (7, 7), (3, 5), (1, 30)])
def test_equals_mmdets_windows(shift: int, size: tuple[int, int]) -> None:
    windows = with_random_weights(ShiftWindowMSA(12, 3, 7, shift))
    x = torch.randn(2, size[0] * size[1], 12)
    assert torch.equal(in_export_form(windows)(x, size), windows(x, size))


@pytest.mark.parametrize('output', [7, 1, (3, 4), (None, 2)])
@pytest.mark.parametrize('size', [(15, 23), (7, 7), (1, 5)])
def test_equals_pytorchs_average_pooling(output: Any, size: tuple[int, int]) -> None:
    x = torch.randn(2, 3, *size, dtype=torch.float64)
    torch.testing.assert_close(ExportedAveragePool(output)(x), nn.AdaptiveAvgPool2d(output)(x), rtol=1e-14, atol=1e-14)


class Padded(nn.Module):
    """A network on images that are padded to multiples of 32, as by a detector."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        height, width = images.shape[2:]
        return tuple(self.net(nn.functional.pad(images, (0, -width % 32, 0, -height % 32))))


class Pooling(nn.Module):
    """Two levels of linear attention's pooling."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(7)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.pool(x[:, :, ::stride, ::stride]) for stride in (8, 32))


@pytest.mark.parametrize('build', [lambda: MODELS.build(SWIN), Pooling], ids=['swin', 'pooling'])
def test_a_graph_traced_once_equals_the_network_at_any_size(build: Callable[[], nn.Module], tmp_path: Path) -> None:
    """For Swin, one to four windows at the second level, whole and cut."""
    net = Padded(with_random_weights(build()))
    path = tmp_path / 'net.onnx'
    with quiet():
        program = torch.onnx.export(
            in_export_form(net), (Tracing().example()[0].float(),), dynamo=True, opset_version=OPSET, verbose=False,
            input_names=['images'], dynamic_shapes=({0: 'batch', 2: 'height', 3: 'width'},))
    assert program is not None
    program.save(str(path))
    session = onnxruntime.InferenceSession(path)
    for size in ((32, 32), (50, 56), (57, 200), (64, 224)):
        images = torch.randn(3, 3, *size)
        for one, wanted in zip(session.run(None, {'images': images.numpy()}), net(images), strict=True):
            np.testing.assert_allclose(one, wanted.numpy(), rtol=1e-5, atol=1e-5)
