"""QueryInst as an ONNX file: the masks of the detections, the same as in PyTorch, through every user of the file."""
from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope

from sparse_rcnn_mm.cli import export as command
from sparse_rcnn_mm.errors import UserError
from sparse_rcnn_mm.export import Tracing, export
from sparse_rcnn_mm.export.description import network_of
from sparse_rcnn_mm.export.proof import Limits, as_inputs, compare, prove, smooth_image, solid_ones, stack
from sparse_rcnn_mm.export.reduced import openvino_file
from sparse_rcnn_mm.export.serving import triton_config
from sparse_rcnn_mm.inference import Detector
from sparse_rcnn_mm.inference.backend import TorchBackend
from sparse_rcnn_mm.inference.detections import ImageDetections
from sparse_rcnn_mm.inference.exported import ExportedDetector
from sparse_rcnn_mm.models.queryinst.pasting import paste_masks
from sparse_rcnn_mm.registry import MODELS
from sparse_rcnn_mm.runtime import Engine, RuntimeDetector
from tests.kit import CONFIGS


@pytest.fixture(scope='module')
def plain() -> Detector:
    """Untrained, with proposals and scores that differ."""
    config = Config.fromfile(CONFIGS / 'queryinst_r18_digits.py')
    config.merge_from_dict({'model.backbone.base_channels': 8, 'model.neck.in_channels': [16, 32, 64],
                            'model.roi_head.num_stages': 2, 'model.rpn_head.num_proposals': 12})
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('sparse_rcnn_mm'):
        model = MODELS.build(config.model).eval()
    boxes = model.rpn_head.init_proposal_bboxes.weight
    with torch.no_grad():
        boxes.copy_(torch.rand_like(boxes) * torch.tensor([0.6, 0.6, 0.6, 0.6]) + 0.2)
        for stage in model.roi_head.bbox_head:
            stage.fc_cls.weight.normal_(std=0.3)
    return Detector(TorchBackend(model), config.test_dataloader.dataset.pipeline, [str(i) for i in range(10)])


@pytest.fixture(scope='module')
def exported(plain: Detector, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp('masks') / 'masks.onnx'
    differences = export(plain, path)
    assert differences.masks is not None and differences.within(Limits()), differences
    assert 'of the pixels' in str(differences)
    return path


@pytest.mark.slow
def test_outputs(exported: Path) -> None:
    outputs = {one.name: [dim.dim_param or dim.dim_value for dim in one.type.tensor_type.shape.dim]
               for one in onnx.load(exported).graph.output}
    assert outputs == {'boxes': ['batch', 12, 4], 'scores': ['batch', 12], 'labels': ['batch', 12],
                       'masks': ['batch', 12, 28, 28], 'mask_boxes': ['batch', 12, 4]}
    config = triton_config('masks', 'onnxruntime', Engine(exported))
    assert 'name: "masks" data_type: TYPE_FP32 dims: [ -1, 12, 28, 28 ]' in config


@pytest.mark.slow
@pytest.mark.parametrize('sizes', [[(333, 500)], [(64, 96), (200, 33), (128, 128)]])
def test_probabilities_and_pixels_equal_those_of_pytorch(exported: Path, plain: Detector, sizes: list) -> None:
    images = [smooth_image(90 + seed, *size) for seed, size in enumerate(sizes)]
    found = Engine(exported)(stack(images), np.array(sizes))
    with torch.no_grad():
        wanted = network_of(plain)(torch.from_numpy(stack(images)), torch.tensor(sizes))
    order = [np.argsort(-scores, kind='stable') for scores in (found[1], wanted[1].numpy())]
    assert all((one == np.arange(12)).all() for one in order)
    assert np.abs(found[3] - wanted[3].numpy()).max() < 1e-5
    assert np.abs(found[4] - wanted[4].numpy()).max() < 1e-3
    for one, expected in zip(solid_ones(found, sizes), plain.backend(as_inputs(images)), strict=True):
        differences = compare(one, expected, Limits())
        assert differences.masks is not None and differences.within(Limits()), differences
        assert one.masks is not None and one.masks.shape == (len(one.scores), *one.masks.shape[1:])


@pytest.mark.slow
def test_detectors_of_the_file_give_masks_in_the_original_image(exported: Path, plain: Detector) -> None:
    image = smooth_image(5, 300, 410)
    wanted = plain(image)
    for found in (RuntimeDetector(exported)(image)[0], ExportedDetector(exported)(image)):
        same_masks(found, wanted)


def same_masks(found: Any, wanted: ImageDetections) -> None:
    assert found.masks is not None and wanted.masks is not None and found.masks.shape == wanted.masks.shape
    np.testing.assert_allclose(found.scores, wanted.scores, atol=1e-5)
    assert max((one != other).mean() for one, other in zip(found.masks, wanted.masks, strict=True)) < 1e-3
    assert found.masks.any()


@pytest.mark.slow
def test_other_masks_are_found_and_no_file_stays(exported: Path, plain: Detector, tmp_path: Path) -> None:
    class Shifted:
        metadata = Engine(exported).metadata

        def __call__(self, images: np.ndarray, sizes: np.ndarray) -> list[np.ndarray]:
            *others, masks, boxes = Engine(exported)(images, sizes)
            return [*others, np.roll(masks, 6, axis=-1), boxes]

    with pytest.raises(UserError, match='gives other detections than PyTorch .*of the pixels'):
        prove(Shifted(), plain.backend, Limits())  # type: ignore[arg-type]


@pytest.mark.slow
def test_a_static_file_pads_masks_too(plain: Detector, tmp_path: Path) -> None:
    path = tmp_path / 'static.onnx'
    export(plain, path, tracing=Tracing((200, 256), 2))
    found = RuntimeDetector(path)(smooth_image(1, 90, 120), smooth_image(2, 80, 80), smooth_image(3, 60, 100))
    assert [one.masks.shape[1:] for one in found if one.masks is not None] == [(90, 120), (80, 80), (60, 100)]


def test_pasting_by_hand() -> None:
    # A mask of 2 x 2 cells in a box of 4 x 4 pixels: weights 1/4 and 3/4 between the centers of the cells.
    mask = torch.tensor([[[1., 0.], [0., 0.]]])
    pixels = paste_masks(mask, torch.tensor([[1., 2., 5., 6.]]), 8, 7)[0].numpy()
    wanted = np.zeros((8, 7), bool)
    wanted[2:4, 1:3] = True  # 1 or 3/4 in both directions: at least 9/16
    assert (pixels == wanted).all()
    assert not paste_masks(mask, torch.tensor([[3., 3., 3., 3.]]), 8, 7).any()


@pytest.mark.slow
def test_openvino(exported: Path, plain: Detector, tmp_path: Path) -> None:
    pytest.importorskip('openvino')
    path = tmp_path / 'masks.xml'
    openvino_file(exported, path, Engine(exported).metadata, fp16=False, images=None)
    differences = prove(Engine(path), plain.backend, Limits())
    assert differences.masks is not None and differences.masks < 1e-3
    image = smooth_image(5, 300, 410)
    same_masks(ExportedDetector(path)(image), plain(image))


@pytest.mark.slow
def test_pt2(plain: Detector, tmp_path: Path) -> None:
    path = tmp_path / 'masks.pt2'
    differences = export(plain, path, tracing=Tracing((96, 128), 1))
    assert differences.masks is not None and differences.masks < 1e-3
    image = smooth_image(5, 96, 128)
    found = Engine(path)(stack([image, image]), np.array([[96, 128]] * 2))  # two runs, as the file is for one image
    with torch.no_grad():
        wanted = network_of(plain)(torch.from_numpy(stack([image, image])), torch.tensor([[96, 128]] * 2))
    assert np.abs(found[3] - wanted[3].numpy()).max() < 1e-5
    detections = ExportedDetector(path)(image)
    assert detections.masks is not None and detections.masks.any() and detections.masks.shape[1:] == (96, 128)


@pytest.mark.slow
def test_check_compares_mask_ap_too(plain: Detector, digits: Path, tool: Callable[..., int], tmp_path: Path,
                                    capsys: pytest.CaptureFixture[str]) -> None:
    cfg = Config.fromfile(CONFIGS / 'queryinst_r18_digits.py')
    cfg.merge_from_dict({'model.backbone.base_channels': 8, 'model.neck.in_channels': [16, 32, 64],
                         'model.roi_head.num_stages': 2, 'model.rpn_head.num_proposals': 12,
                         'test_dataloader.dataset.data_root': str(digits), 'test_dataloader.dataset.indices': 8,
                         'test_evaluator.ann_file': f'{digits}/val.json'})
    path = tmp_path / 'masks.pth'
    torch.save({'state_dict': plain.backend.model.state_dict(), 'meta': {
        'cfg': cfg.pretty_text, 'dataset_meta': {'classes': tuple(map(str, range(10)))}}}, path)
    assert tool('export', str(path), '--check') == 0
    printed = re.findall(r'^(.*AP) (0\.\d+) in PyTorch, (0\.\d+) in the exported file', capsys.readouterr().out, re.M)
    assert [name for name, *_ in printed] == ['AP', 'mask AP']
    for _, before, after in printed:
        assert abs(float(before) - float(after)) <= 1e-4


def test_a_lower_mask_ap_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {'a.pth': {'AP': 0.5, 'mask AP': 0.4}, 'a.onnx': {'AP': 0.5, 'mask AP': 0.39}}
    monkeypatch.setattr(command, 'average_precisions', lambda args, model, folder: found[model.name])
    with pytest.raises(UserError, match='the mask AP falls from 0.4000 to 0.3900, by more than 0.002: the exported'):
        command.compare_ap(argparse.Namespace(checkpoint=Path('a.pth')), Path('a.onnx'), 0.002)
    del found['a.onnx']['mask AP']  # as with --stages
    command.compare_ap(argparse.Namespace(checkpoint=Path('a.pth')), Path('a.onnx'), 0.002)
