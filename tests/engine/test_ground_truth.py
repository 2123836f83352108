"""Ground truth of a data set that checks nothing."""
from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import HorizontalBoxes
from mmengine.structures import InstanceData

from sparse_rcnn_mm.datasets import DigitsDataset
from sparse_rcnn_mm.engine.ground_truth import check_ground_truth
from sparse_rcnn_mm.errors import UserError
from sparse_rcnn_mm.registry import DATASETS
from tests.kit import DIGITS_CONFIG

NAN, INF = float('nan'), float('inf')


def batch_of(boxes: list[list[float]], labels: list[int], wrap: Callable = torch.Tensor.clone) -> dict:
    """A good image, and one with these boxes."""
    samples = []
    for name, some, classes in (('good.png', [[0, 0, 5, 5]], [0]), ('bad.png', boxes, labels)):
        tensor = torch.tensor(some, dtype=torch.float32).reshape(-1, 4)
        samples.append(DetDataSample(metainfo={'img_path': f'/data/{name}'}, gt_instances=InstanceData(
            bboxes=wrap(tensor), labels=torch.tensor(classes, dtype=torch.long))))
    return {'inputs': [], 'data_samples': samples}


@pytest.mark.parametrize('wrap', [torch.Tensor.clone, HorizontalBoxes])
@pytest.mark.parametrize(('box', 'shown'), [([0, 0, NAN, 5], '0, 0, nan, 5'), ([-INF, 0, 5, 5], '-inf, 0, 5, 5'),
                                            ([0, 0, 1e20, 1e20], '0, 0, 1e+20, 1e+20'), ([2e8, 0, 3e8, 1], '2e+08')])
def test_bad_boxes(box: list[float], shown: str, wrap: Callable) -> None:
    with pytest.raises(UserError, match=r'image /data/bad.png has the box \[') as caught:
        check_ground_truth(batch_of([[1, 1, 2, 2], box], [0, 0], wrap), 3)
    assert f'[{shown}' in str(caught.value)


@pytest.mark.parametrize('label', [-1, 3, 2 ** 40])
def test_bad_labels(label: int) -> None:
    with pytest.raises(UserError, match=f'image /data/bad.png has the label {label}, but the model has 3 classes'):
        check_ground_truth(batch_of([[1, 1, 2, 2], [1, 1, 2, 2]], [2, label]), 3)
    check_ground_truth(batch_of([[1, 1, 2, 2]], [label]), None)


@pytest.mark.parametrize('boxes', [[], [[-1e8, 0, 1e8, 1]]])
def test_what_is_fine(boxes: list[list[float]]) -> None:
    check_ground_truth(batch_of(boxes, [2] * len(boxes)), 3)
    check_ground_truth('a batch of another kind', 3)
    check_ground_truth({'data_samples': [DetDataSample()]}, 3)


@DATASETS.register_module()
class BadDigits(DigitsDataset):
    """The second image has a box or a label that makes no sense."""

    def __init__(self, *, what: str, **settings: Any) -> None:
        self.what = what
        super().__init__(**settings)

    def prepare_data(self, idx: int) -> Any:
        data = super().prepare_data(idx)
        if idx == 1:
            truth = data['data_samples'].gt_instances
            if self.what == 'box':
                truth.bboxes.tensor[0] = float('nan')
            else:
                truth.labels[0] = 77
        return data


@pytest.mark.parametrize(('what', 'sentence'), [('box', '.jpg has the box [nan, '), ('label', '.jpg has the label 77')])
def test_training_on_a_data_set_of_ones_own(tool: Callable[..., int], small: list[str], tmp_path: Path,
                                            capsys: pytest.CaptureFixture, what: str, sentence: str) -> None:
    config = tmp_path / 'own.py'
    config.write_text(f"_base_ = '{DIGITS_CONFIG}'\ntrain_dataloader = dict(dataset=dict(type='BadDigits', "
                      f"what='{what}'), num_workers=0, persistent_workers=False)\n")
    assert tool('train', config, *small) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith('error: the ground truth of image ') and sentence in error
