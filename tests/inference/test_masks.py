"""Masks on their way out: kept with their detections, in files as run lengths, and on pictures."""
from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from PIL import Image

from sparse_rcnn_mm.datasets.masks import decode_segmentation
from sparse_rcnn_mm.inference import Detector
from sparse_rcnn_mm.inference.backend import TorchBackend
from sparse_rcnn_mm.inference.detections import ImageDetections
from sparse_rcnn_mm.inference.formats import write_coco
from sparse_rcnn_mm.inference.records import Record
from sparse_rcnn_mm.inference.run import draw_detections
from sparse_rcnn_mm.inference.stages import follow_stages
from sparse_rcnn_mm.registry import MODELS
from sparse_rcnn_mm.visualization.masks import OPACITY, draw_masks
from sparse_rcnn_mm.visualization.stages import panel
from tests.kit import CONFIGS


def detections() -> ImageDetections:
    masks = np.zeros((2, 6, 10), bool)
    masks[0, 1:4, 2:7], masks[1, 0, 0] = True, True
    return ImageDetections(np.array([[2, 1, 7, 4], [0, 0, 1, 1]], np.float32), np.array([0.75, 0.25], np.float32),
                           np.array([1, 0]), ('dog', 'ant'), masks)


def test_a_mask_stays_with_its_detection() -> None:
    kept = detections().keep(classes=['ant'])
    assert kept.masks is not None and kept.masks.shape == (1, 6, 10)
    assert np.argwhere(kept.masks[0]).tolist() == [[0, 0]]


def test_run_lengths_in_coco_results() -> None:
    found = detections()
    assert found.masks is not None
    for one, mask in zip(found.to_coco(), found.masks, strict=True):
        assert (decode_segmentation(one['segmentation'], 6, 10) == mask).all()
        json.dumps(one)


def test_run_lengths_in_files(tmp_path: Path) -> None:
    found = detections()
    assert found.masks is not None
    counts = [one['segmentation']['counts'] for one in found.to_coco()]
    record = Record('a.png', None, 'a.png', 10, 6, found.boxes.tolist(), found.scores.tolist(), found.labels.tolist(),
                    counts)
    write_coco(tmp_path / 'coco.json', lambda: [record], ('ant', 'dog'), (5, 7))
    written = json.loads((tmp_path / 'coco.json').read_text())['annotations']
    assert [one['area'] for one in written] == [15, 1]
    assert (decode_segmentation(written[0]['segmentation'], 6, 10) == found.masks[0]).all()


def test_the_first_mask_is_on_top() -> None:
    masks = np.zeros((2, 2, 3), bool)
    masks[0, 0, :2], masks[1, 0, 1:] = True, True
    picture = draw_masks(Image.new('RGB', (6, 4), (100, 100, 100)), masks, [(255, 0, 0), (0, 255, 0)])
    pixels = np.asarray(picture, float)
    red, green = (100 + OPACITY * (np.array(color) - 100) for color in ([255, 0, 0], [0, 255, 0]))
    np.testing.assert_allclose(pixels[:2, :4], np.broadcast_to(red, (2, 4, 3)), atol=1.5)
    np.testing.assert_allclose(pixels[:2, 4:], np.broadcast_to(green, (2, 2, 3)), atol=1.5)
    assert (pixels[2:] == 100).all()


def test_pictures_show_masks() -> None:
    found = detections()
    plain = ImageDetections(found.boxes, found.scores, found.labels, found.names)
    image = np.full((6, 10, 3), 90, np.uint8)
    colors = [(255, 0, 0), (0, 0, 255)]
    with_masks, without = (np.asarray(draw_detections(image, one, colors)) for one in (found, plain))
    assert (with_masks != without).any()


@pytest.fixture(scope='module')
def detector() -> Detector:
    """Untrained, with masks that differ."""
    config = Config.fromfile(CONFIGS / 'queryinst_r18_digits.py')
    config.merge_from_dict({'model.backbone.base_channels': 8, 'model.neck.in_channels': [16, 32, 64],
                            'model.roi_head.num_stages': 2})
    with DefaultScope.overwrite_default_scope('sparse_rcnn_mm'):
        torch.manual_seed(0)
        model = MODELS.build(config.model).eval()
    for stage in model.roi_head.bbox_head:
        torch.nn.init.normal_(stage.fc_cls.weight, std=0.3)
    return Detector(TorchBackend(model), config.test_dataloader.dataset.pipeline, [str(i) for i in range(10)])


def test_detector_gives_masks_at_the_size_of_the_image(detector: Detector) -> None:
    found = detector(np.random.default_rng(0).integers(0, 255, (50, 70, 3), np.uint8))
    assert found.masks.shape == (len(found), 50, 70)
    for box, mask in zip(found.boxes, found.masks, strict=True):
        rows, columns = np.nonzero(mask)
        if len(rows):
            assert columns.min() >= np.floor(box[0]) and columns.max() <= np.ceil(box[2])
            assert rows.min() >= np.floor(box[1]) and rows.max() <= np.ceil(box[3])


def test_masks_after_every_stage(detector: Detector) -> None:
    image = np.random.default_rng(0).integers(0, 255, (50, 70, 3), np.uint8)
    stages, found = follow_stages(detector, image, 0.), detector(image)
    assert stages.masks is not None and stages.masks.shape == (2, len(stages.kept), 50, 70)
    compared = 0
    for query, mask in zip(stages.kept, stages.masks[-1], strict=True):
        box = stages.boxes[-1, query].clip(0, [70, 50, 70, 50])
        same = (np.abs(found.boxes - box).max(1) < 1e-3) & (found.labels == stages.labels[query]) & (
            np.abs(found.scores - stages.scores[-1, query]) < 1e-6)
        for index in np.flatnonzero(same):
            assert (found.masks[index] != mask).sum() <= 2  # the boxes are rounded differently
            compared += bool(mask.any())
    assert compared > 5
    assert (stages.masks[0] != stages.masks[1]).any()
    with_masks, plain = (np.asarray(panel(image, one, 2)) for one in (stages, replace(stages, masks=None)))
    assert (with_masks != plain).any()
    moving, still = (np.asarray(panel(image, one, 1.5)) for one in (stages, replace(stages, masks=None)))
    assert (moving == still).all()


@pytest.mark.parametrize('masks', [None, np.zeros((0, 4, 4), bool)])
def test_nothing_found(masks: np.ndarray | None) -> None:
    none = ImageDetections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64), (), masks)
    assert none.to_coco() == [] and len(none.keep(0.5)) == 0
    draw_detections(np.zeros((4, 4, 3), np.uint8), none, [])
