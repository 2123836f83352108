"""Top-k against sorting every pair of proposal and class."""
import pytest
import torch

from sparse_rcnn_mm.models import TopKDetections
from sparse_rcnn_mm.models.structures import StageOutput

from .samples import random_stage


@pytest.mark.parametrize(('max_per_img', 'classes', 'expected'), [
    (None, 5, 6), (4, 5, 4), (17, 5, 17), (30, 5, 30), (1000, 5, 30), (None, 1, 6), (1000, 1, 6)])
def test_equals_sorting_all_pairs(max_per_img: int | None, classes: int, expected: int) -> None:
    stage = random_stage(3, 6, classes)
    detections = TopKDetections(max_per_img=max_per_img)(stage)
    assert detections.scores.shape == (3, expected)
    scores = stage.logits.sigmoid()
    for image in range(3):
        pairs = [(scores[image, n, k].item(), k, stage.boxes[image, n].tolist())
                 for n in range(6) for k in range(classes)]
        best = sorted(pairs, key=lambda pair: -pair[0])[:expected]
        assert detections.scores[image].tolist() == [score for score, _, _ in best]
        assert detections.labels[image].tolist() == [label for _, label, _ in best]
        assert detections.boxes[image].tolist() == [box for _, _, box in best]


def test_one_proposal_may_be_detected_as_several_classes() -> None:
    stage = StageOutput(torch.tensor([[[3., 2.], [-1., -2.]]]), torch.tensor([[[0., 0., 1., 1.], [5., 5., 6., 6.]]]),
                        torch.zeros(1, 2, 1))
    detections = TopKDetections()(stage)
    assert detections.labels.tolist() == [[0, 1]]
    assert detections.boxes.tolist() == [[[0., 0., 1., 1.], [0., 0., 1., 1.]]]


def test_scores_are_float32_under_half_precision() -> None:
    stage = random_stage(1, 6)
    half = TopKDetections()(stage._replace(logits=stage.logits.bfloat16()))
    assert half.scores.dtype == torch.float32
    torch.testing.assert_close(half.scores[0], stage.logits.bfloat16().float().sigmoid().flatten().topk(6).values)
