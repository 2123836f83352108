"""Detections in the forms of other programs."""
from __future__ import annotations

import builtins
from typing import Any

import numpy as np
import pytest

from sparse_rcnn_mm.errors import UserError
from sparse_rcnn_mm.inference import ImageDetections


@pytest.fixture
def found() -> ImageDetections:
    boxes = np.array([[10, 20, 30, 60], [0.5, 0, 1.5, 8]], np.float32)
    return ImageDetections(boxes, np.array([0.75, 0.25], np.float32), np.array([2, 0]), ('dog', 'ant'))


NONE = ImageDetections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64), ())


def test_coco_results(found: ImageDetections) -> None:
    assert found.to_coco() == [
        {'image_id': 1, 'category_id': 3, 'bbox': [10, 20, 20, 40], 'score': 0.75},
        {'image_id': 1, 'category_id': 1, 'bbox': [0.5, 0, 1, 8], 'score': 0.25}]
    assert [(one['image_id'], one['category_id']) for one in found.to_coco(7, (5, 15, 90))] == [(7, 90), (7, 5)]
    assert NONE.to_coco() == []


def test_a_data_frame(found: ImageDetections) -> None:
    pytest.importorskip('pandas')
    frame = found.to_pandas()
    assert list(frame.columns) == ['class', 'score', 'x1', 'y1', 'x2', 'y2']
    assert frame.to_dict('records')[1] == {'class': 'ant', 'score': 0.25, 'x1': 0.5, 'y1': 0, 'x2': 1.5, 'y2': 8}
    assert list(frame[frame.score > 0.5]['class']) == ['dog']
    assert NONE.to_pandas().shape == (0, 6)


def test_supervision(found: ImageDetections) -> None:
    supervision = pytest.importorskip('supervision')
    theirs = found.to_supervision()
    assert isinstance(theirs, supervision.Detections) and len(theirs) == 2
    np.testing.assert_array_equal(theirs.xyxy, found.boxes)
    np.testing.assert_array_equal(theirs.area, [800, 8])
    confident = theirs[theirs.confidence > 0.5]
    assert (confident.class_id.tolist(), confident['class_name'].tolist()) == ([2], ['dog'])
    picture = supervision.BoxAnnotator(thickness=1).annotate(np.zeros((70, 40, 3), np.uint8), theirs)
    assert picture[20:61, 10].any(axis=-1).all() and not picture[30, 15].any()
    assert len(NONE.to_supervision()) == 0


@pytest.mark.parametrize('package', ['pandas', 'supervision'])
def test_a_missing_package_is_named(found: ImageDetections, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == package:
            raise ImportError(name)
        return plain(name, *args, **kwargs)

    monkeypatch.setattr(builtins, '__import__', without)
    with pytest.raises(UserError, match=f'pip install {package}$'):
        getattr(found, f'to_{package}')()
