"""A detector as an ONNX file: what is in it, that the proof sees faults, and which detectors are refused."""
from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import sparse_rcnn_mm.export
from sparse_rcnn_mm.errors import UserError
from sparse_rcnn_mm.export import export
from sparse_rcnn_mm.export.description import describe
from sparse_rcnn_mm.export.proof import Differences, Limits, as_inputs, compare, smooth_image, stack
from sparse_rcnn_mm.inference import Detector
from sparse_rcnn_mm.inference.backend import Found
from sparse_rcnn_mm.runtime import Engine
from tests.kit import CLASSES


@pytest.fixture(scope='module')
def plain(small_checkpoint: Path) -> Detector:
    return Detector.from_checkpoint(small_checkpoint, device='cpu', fast=False)


def test_one_file_of_standard_operators_without_traces_of_the_sources(exported: Path) -> None:
    model = onnx.load(exported, load_external_data=False)
    assert [(one.domain, one.version) for one in model.opset_import] == [('', 18)]
    assert not {node.op_type for node in model.graph.node} & {'If', 'Loop', 'NonZero', 'Scan', 'SequenceAt'}
    assert not any(len(node.metadata_props) or node.doc_string for node in model.graph.node)
    assert not any(one.external_data for one in model.graph.initializer)
    assert str(Path(__file__).parents[2]).encode() not in exported.read_bytes()


def test_inputs_and_outputs_are_open_in_batch_height_and_width(exported: Path) -> None:
    graph = onnx.load(exported).graph

    def shapes(values: list) -> dict:
        return {value.name: [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
                for value in values}

    assert shapes(graph.input) == {'images': ['batch', 3, 'height', 'width'], 'sizes': ['batch', 2]}
    assert shapes(graph.output) == {'boxes': ['batch', 20, 4], 'scores': ['batch', 20], 'labels': ['batch', 20]}


def test_says_what_it_is(exported: Path, plain: Detector) -> None:
    (text,) = (one.value for one in onnx.load(exported).metadata_props if one.key == 'sparse_rcnn_mm')
    said = json.loads(text)
    assert said == {**describe(plain, said['config']), 'precision': 'fp32', 'batch': None}
    assert 'SparseRCNN' in said['config']
    assert (said['format'], said['classes'], said['category_ids']) == (1, list(CLASSES), list(range(7, 100, 10)))
    assert said['resize'] == {'short_side': 192, 'max_long_side': None}


@pytest.mark.parametrize('sizes', [[(333, 500)], [(31, 700)], [(1, 1)], [(64, 96), (200, 33), (128, 128)],
                                   [(50 + 9 * index, 120 - 7 * index) for index in range(5)]])
def test_equals_pytorch_on_sizes_that_the_export_never_saw(exported: Path, plain: Detector, sizes: list) -> None:
    images = [smooth_image(90 + seed, *size) for seed, size in enumerate(sizes)]
    found = Engine(exported)(stack(images), np.array(sizes))
    for one, wanted in zip(map(Found, *found), plain.backend(as_inputs(images)), strict=True):
        solid = (one.boxes[:, 2:] > one.boxes[:, :2]).all(axis=1)
        differences = compare(Found(*(value[solid] for value in one[:3])), wanted, Limits())
        assert len(wanted.scores) and differences.within(Limits()), differences


def change_one_weight(path: Path, change: Callable[[np.ndarray], np.ndarray]) -> None:
    """The largest matrix of the file."""
    model = onnx.load(path)
    largest = max(model.graph.initializer, key=lambda one: np.prod(one.dims))
    largest.CopyFrom(numpy_helper.from_array(change(numpy_helper.to_array(largest)), largest.name))
    onnx.save(model, path)


@pytest.mark.parametrize(('factor', 'said'), [
    (1.001, 'gives other detections than PyTorch .*it was not kept'),
    (np.float32(np.nan), 'it was not kept: .*finite')])
def test_a_wrong_weight_is_found_and_no_file_stays(exported: Path, plain: Detector, tmp_path: Path, factor: float,
                                                   said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def write_wrongly(network: object, metadata: object, path: Path, tracing: object) -> None:
        path.write_bytes(exported.read_bytes())
        change_one_weight(path, lambda weight: (weight * factor).astype(np.float32))

    monkeypatch.setattr(sparse_rcnn_mm.export, 'write_onnx', write_wrongly)
    with pytest.raises(UserError, match=said):
        export(plain, tmp_path / 'wrong.onnx')
    assert list(tmp_path.iterdir()) == []


def test_an_older_file_outlives_a_failed_export(plain: Detector, tmp_path: Path,
                                                monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise UserError('cannot')

    (tmp_path / 'm.onnx').write_text('old')
    monkeypatch.setattr(sparse_rcnn_mm.export, 'write_onnx', fail)
    with pytest.raises(UserError, match='cannot'):
        export(plain, tmp_path / 'm.onnx')
    assert (tmp_path / 'm.onnx').read_text() == 'old'


def found(*rows: tuple[float, int, float]) -> Found:
    """Detections of (score, label, left edge)."""
    scores, labels, left = map(np.array, zip(*rows, strict=True))
    boxes = np.stack([left, left, left + 10, left + 10], axis=1).astype(np.float32)
    return Found(boxes, scores.astype(np.float32), labels)


WANTED = found((0.9, 1, 5), (0.500001, 2, 50), (0.5, 2, 80), (0.1, 3, 7))


@pytest.mark.parametrize(('other', 'boxes', 'scores', 'swapped'), [
    (found((0.9, 1, 5.25), (0.500001, 2, 50), (0.5, 2, 80), (0.1, 3, 7)), 0.25, 0, 0),
    (found((0.9, 1, 5), (0.500001, 2, 80), (0.5, 2, 50), (0.1, 3, 7)), 0, 1e-6, 2),  # neighbors change places
    (found((0.9, 1, 5), (0.500001, 2, 50), (0.5, 2, 80), (0.100005, 6, 99)), 0, 0, 0),  # another made it into the list
    (found((0.8, 1, 5), (0.500001, 2, 50), (0.5, 2, 80), (0.1, 3, 7)), 0, 0.1, 0),
    (found((0.9, 4, 5), (0.500001, 2, 50), (0.5, 2, 80), (0.1, 3, 7)), np.inf, np.inf, 0),  # another class
    (found((0.9, 1, 5), (0.500001, 2, 50), (0.5, 2, 80)), 0, 0, 0),
    (found((0.9, 1, 5), (0.500001, 2, 50), (0.1, 3, 7)), np.inf, np.inf, 0),  # one is lost
])
def test_compares_as_sets(other: Found, boxes: float, scores: float, swapped: int) -> None:
    for one, two in ((other, WANTED), (WANTED, other)):
        differences = compare(one, two, Limits())
        assert (differences.boxes, differences.swapped) == (boxes, swapped)
        assert differences.scores == pytest.approx(scores, abs=1e-7)


@pytest.mark.parametrize(('side', 'apart', 'within'), [
    (320, 9e-4, True), (320, 1.1e-3, False), (800, 1.1e-3, False), (1600, 1.9e-3, True), (1600, 2.1e-3, False)])
def test_limits_of_boxes_grow_with_large_images(side: int, apart: float, within: bool) -> None:
    limits = Limits().for_side(side)
    assert Differences(boxes=apart, scores=9e-6, masks=9e-4).within(limits) is within
    assert not Differences(scores=1.1e-5).within(limits) and not Differences(masks=1.1e-3).within(limits)


def test_what_cannot_be_exported_is_one_sentence(small_checkpoint: Path, plain: Detector, tmp_path: Path) -> None:
    with pytest.raises(UserError, match='must end in .onnx'):
        export(plain, tmp_path / 'x.pt')
    with pytest.raises(UserError, match='only the plain form'):
        export(Detector.from_checkpoint(small_checkpoint, device='cpu'), tmp_path / 'x.onnx')
    short = Detector(plain.backend, [dict(type='LoadRGBImage'), dict(type='ResizeShortSide', short_sides=[64, 96]),
                                     dict(type='PackDetInputs')], plain.classes)
    with pytest.raises(UserError, match='the test pipeline is ResizeShortSide, PackDetInputs: only LoadRGBImage'):
        export(short, tmp_path / 'x.onnx')
    assert list(tmp_path.iterdir()) == []
