"""Graphs with a fixed shape, and with the boxes of every stage."""
from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from sparse_rcnn_mm.errors import UserError
from sparse_rcnn_mm.export import Tracing, export
from sparse_rcnn_mm.export.proof import Limits, as_inputs, compare, sizes_to_try, smooth_image, stack
from sparse_rcnn_mm.inference import Detector
from sparse_rcnn_mm.inference.backend import Found
from sparse_rcnn_mm.inference.stages import follow_stages
from sparse_rcnn_mm.runtime import Engine, RuntimeDetector
from sparse_rcnn_mm.runtime.preprocessing import resized_shape


@pytest.fixture(scope='module')
def plain(small_checkpoint: Path) -> Detector:
    return Detector.from_checkpoint(small_checkpoint, device='cpu', fast=False)


@pytest.mark.parametrize(('size', 'expected'), [((3, 4), (192, 256)), ((4, 3), (200, 150)), ((1, 1), (192, 192)),
                                                ((1, 9), (36, 320)), ((9, 1), (200, 22))])
def test_images_shrink_to_fit_into_a_static_size(size: tuple[int, int], expected: tuple[int, int]) -> None:
    assert resized_shape(*(100 * side for side in size), 192, None, (200, 320)) == expected
    assert resized_shape(*(100 * side for side in size), 192, None, (9999, 9999)) == resized_shape(
        *(100 * side for side in size), 192)


def test_the_proof_tries_images_that_fit() -> None:
    for sizes in sizes_to_try(192, None, (200, 224)):
        assert all(height <= 200 and width <= 224 for height, width in sizes)


@pytest.mark.parametrize(('wrong', 'said'), [({'size': (31, 64)}, 'a static size of 31 x 64 is too small'),
                                             ({'batch': 0}, 'a batch of 0 images is too small')])
def test_what_cannot_be_fixed_is_one_sentence(wrong: dict, said: str, plain: Detector, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=said):
        Tracing(**wrong)
    with pytest.raises(UserError, match='a .pt2 file has a static shape: give --static H W'):
        export(plain, tmp_path / 'x.pt2')
    with pytest.raises(UserError, match='a .pt2 file is in float32'):
        export(plain, tmp_path / 'x.pt2', precision='fp16')
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize('name', ['x.onnx', 'x.pt2'])
def test_a_static_file_takes_any_batch_of_images_that_fit(name: str, plain: Detector, tmp_path: Path) -> None:
    path = tmp_path / name
    export(plain, path, tracing=Tracing((200, 256), 2))
    if path.suffix == '.onnx':
        graph = onnx.load(path).graph
        assert [dim.dim_value for dim in graph.input[0].type.tensor_type.shape.dim] == [2, 3, 200, 256]
        assert [dim.dim_value for dim in graph.output[0].type.tensor_type.shape.dim] == [2, 20, 4]
    sizes = [(192, 256), (200, 100), (64, 256)]
    images = [smooth_image(90 + seed, *size) for seed, size in enumerate(sizes)]
    found = Engine(path)(stack(images), np.array(sizes))
    wanted = plain.backend(as_inputs([*images, np.zeros((200, 256, 3), np.uint8)]))[:3]
    for one, expected in zip(map(Found, *found), wanted, strict=True):
        solid = (one.boxes[:, 2:] > one.boxes[:, :2]).all(axis=1)
        differences = compare(Found(*(value[solid] for value in one[:3])), expected, Limits())
        assert len(expected.scores) and differences.within(Limits()), differences
    with pytest.raises(UserError, match='images of 201 x 100 pixels do not fit into the 200 x 256'):
        Engine(path)(np.zeros((1, 3, 201, 100), np.uint8), np.array([[201, 100]]))
    (found_in_large,) = RuntimeDetector(path)(smooth_image(1, 900, 300))
    assert len(found_in_large.scores) > 5 and found_in_large.boxes.max() > 256


@pytest.mark.slow
def test_boxes_of_every_stage(plain: Detector, tmp_path: Path) -> None:
    path = tmp_path / 'staged.onnx'
    export(plain, path, tracing=Tracing(stages=True))
    session = onnxruntime.InferenceSession(path, providers=['CPUExecutionProvider'])
    image = smooth_image(3, 192, 300)
    boxes, scores, labels, stages = session.run(None, {'images': stack([image]), 'sizes': np.array([[192, 300]])})
    assert stages.shape == (1, 3, 20, 4)  # where they start, and after two stages
    np.testing.assert_array_equal(stages[:, -1], boxes)
    wanted = follow_stages(plain, image, 0)
    limits = np.array([300, 192, 300, 192])
    ours = np.concatenate([stages[0].transpose(1, 0, 2).reshape(20, -1), labels[0][:, None]], axis=1)
    for proposal, label in zip(range(20), wanted.labels, strict=True):
        path_of_it = np.append(wanted.boxes[:, proposal].clip(0, limits).ravel(), label)
        if wanted.scores[-1, proposal] > scores.min() + 1e-4:
            assert np.abs(ours - path_of_it).max(axis=1).min() < 1e-2
    assert json.loads(session.get_modelmeta().custom_metadata_map['sparse_rcnn_mm'])['batch'] is None
