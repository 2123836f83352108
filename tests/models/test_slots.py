"""Detectors that grew out of Sparse R-CNN fit in as new files and a config: each slot is filled from outside here."""
import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from torch import nn

from sparse_rcnn_mm.registry import MODELS

from .samples import random_gt, rectangles, tiny_model

HEADER = """
_base_ = './small.py'
custom_imports = dict(imports=['slots_from_outside'])
optim_wrapper = dict(optimizer=dict(type='AdamW', lr=2e-3, weight_decay=1e-4), clip_grad=dict(max_norm=1.))
"""
SLOTS = {
    'proposals from the features': """
model = dict(rpn_head=dict(_delete_=True, type='ProposalsFromFeatures', num_proposals=8, channels=16, stride=8))
""",
    'a stage that samples points': """
model = dict(roi_head=dict(bbox_head=dict(_delete_=True, type='PointStage', num_classes=3, channels=16)))
""",
    'an assigner with two matches': """
model = dict(criterion=dict(assigner=dict(type='TwoToOneAssigner'), normalizer='num_matched'))
""",
    'all three': """
model = dict(
    rpn_head=dict(_delete_=True, type='ProposalsFromFeatures', num_proposals=8, channels=16, stride=8),
    roi_head=dict(bbox_head=dict(_delete_=True, type='PointStage', num_classes=3, channels=16)),
    criterion=dict(assigner=dict(type='TwoToOneAssigner'), normalizer='num_matched'))
""",
    'a stage with more state': """
model = dict(roi_head=dict(bbox_head=dict(_delete_=True, type='RememberingStage', num_classes=3, channels=16)))
""",
    'groups of queries': """
model = dict(roi_head=dict(type='TwoGroupsRoIHead'))
""",
    'a criterion of several parts': """
model = dict(
    rpn_head=dict(_delete_=True, type='ProposalsFromFeatures', num_proposals=8, channels=16, stride=8),
    criterion=dict(_delete_=True, type='Criteria', parts=dict(
        matched={{_base_.model.criterion}}, dense=dict(type='ObjectnessCriterion'))))
""",
    'tied stages': """
model = dict(roi_head=dict(num_stages=1, order=[0] * 6))
""",
}


@pytest.fixture
def config_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Reads a config as a user would write it, on top of a small one."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    Config(dict(model=tiny_model())).dump(tmp_path / 'small.py')

    def read(text: str) -> Config:
        (tmp_path / 'mine.py').write_text(HEADER + text)
        return Config.fromfile(tmp_path / 'mine.py')

    return read


def train(config: Config, steps: int) -> tuple[nn.Module, list[float]]:
    """The model after some steps on the same four images, and the loss of each step, averaged over stages."""
    model = MODELS.build(config.model).train()
    model.init_weights()
    optim_wrapper = build_optim_wrapper(model, config.optim_wrapper)
    batch = rectangles()
    logs = [model.train_step(copy.deepcopy(batch), optim_wrapper) for _ in range(steps)]
    return model, [log['loss'].item() / len(model.roi_head.order) for log in logs]


@pytest.mark.parametrize('text', SLOTS.values(), ids=SLOTS.keys())
def test_trains_by_config_alone_and_its_loss_falls(config_of: Any, text: str) -> None:
    model, losses = train(config_of(text), 40)
    assert sum(losses[-5:]) < 0.65 * sum(losses[:5])
    assert model.eval().test_step(rectangles())[0].pred_instances.scores.isfinite().all()


def test_what_fills_the_slots_takes_part(config_of: Any) -> None:
    """Proposals differ by image, points are learned, every ground truth has two matches, ties share their weights."""
    model, _ = train(config_of(SLOTS['all three']), 1)
    data = model.data_preprocessor(rectangles(), True)
    _, stages = model.run_stages(data['inputs'], data['data_samples'])
    sum(stage.logits.sum() for stage in stages).backward()
    assert model.rpn_head.objectness.weight.grad.abs().sum() > 0
    assert all(stage.offset.weight.grad.abs().sum() > 0 for stage in model.roi_head.bbox_head)
    proposals = model.rpn_head(model.extract_feat(data['inputs']), torch.full((4, 1, 4), 64.))
    assert not torch.allclose(proposals.boxes[0], proposals.boxes[1])
    gt = random_gt([2, 0, 4, 1])
    logits = torch.randn(1, 4, 8, 5)  # of the five classes of `gt`
    matched_gt = model.criterion.assigner(logits, stages[-1].boxes[None], gt)
    for image, count in enumerate(gt.counts):
        matched = matched_gt[0, image]
        assert sorted(matched[matched >= 0].tolist()) == sorted(2 * list(range(count)))
    tied, _ = train(config_of(SLOTS['tied stages']), 1)
    assert len(tied.roi_head.state_dict()) == 40
