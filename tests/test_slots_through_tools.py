"""Parts from outside go through every tool by config alone: train, resume, test, infer, stages, compile, benchmark."""
from __future__ import annotations

import json
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from sparse_rcnn_mm.acceleration.prediction import fast_form, fast_stage
from sparse_rcnn_mm.benchmark.measure import Workload, measure
from sparse_rcnn_mm.inference import Detector
from tests.kit import DIGITS_CONFIG, ROOT
from tests.kit.through_tools import use_everywhere

C = 16
PROPOSALS = f"rpn_head=dict(_delete_=True, type='ProposalsFromFeatures', num_proposals=20, channels={C}, stride=8)"
STAGE = f"roi_head=dict(bbox_head=dict(_delete_=True, type='RememberingStage', num_classes=10, channels={C}))"
SLOTS = {
    'proposals': f'model = dict({PROPOSALS})',
    'stage': f'model = dict({STAGE})',
    'groups': "model = dict(roi_head=dict(type='TwoGroupsRoIHead'))",
    'assigner': "model = dict(criterion=dict(assigner=dict(type='TwoToOneAssigner'), normalizer='num_matched'))",
    'criterion': f"model = dict({PROPOSALS}, criterion=dict(_delete_=True, type='Criteria', parts=dict("
                 "matched={{_base_.model.criterion}}, dense=dict(type='ObjectnessCriterion'))))",
}


@pytest.fixture
def config(request: pytest.FixtureRequest, digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A config file that fills one slot, on top of the digits' made small: 8 images, narrow layers, two stages."""
    monkeypatch.syspath_prepend(str(ROOT / 'tests' / 'models'))
    small = Config.fromfile(DIGITS_CONFIG)
    loaders = {f'{split}_dataloader.dataset.{key}': value for split in ('train', 'val', 'test')
               for key, value in (('data_root', f'{digits}/'), ('indices', 8))}
    small.merge_from_dict({
        **loaders, 'val_evaluator.ann_file': f'{digits}/val.json', 'test_evaluator.ann_file': f'{digits}/val.json',
        'model.backbone.base_channels': 8, 'model.neck.in_channels': [16, 32, 64], 'model.neck.out_channels': C,
        'model.rpn_head.proposal_feature_channel': C, 'model.roi_head.num_stages': 2,
        'model.roi_head.bbox_head.in_channels': C, 'model.roi_head.bbox_head.feedforward_channels': 32,
        'model.roi_head.bbox_head.dynamic_conv.feat_channels': 8, 'train_cfg.max_iters': 4, 'train_cfg.val_interval': 2,
        'default_hooks.checkpoint.interval': 2, 'default_hooks.logger.interval': 1, 'param_scheduler': [],
        'train_dataloader.num_workers': 0, 'train_dataloader.persistent_workers': False,
        'val_dataloader.num_workers': 0, 'test_dataloader.num_workers': 0})
    small.dump(tmp_path / 'small.py')
    path = tmp_path / 'mine.py'
    path.write_text(f"_base_ = './small.py'\ncustom_imports = dict(imports=['slots_from_outside'])\n{request.param}\n")
    return path


@pytest.mark.slow
@pytest.mark.parametrize('config', SLOTS.values(), ids=list(SLOTS), indirect=True)
def test_a_slot_filled_from_outside(config: Path, tool: Callable[..., int], tmp_path: Path, digits: Path,
                                    capsys: pytest.CaptureFixture) -> None:
    assert tool('train', config, '--work-dir', 'whole') == 0
    assert tool('train', config, '--work-dir', 'parts', '--resume', 'whole/iter_2.pth') == 0
    whole, parts = (torch.load(tmp_path / name / 'iter_4.pth', weights_only=True)['state_dict']
                    for name in ('whole', 'parts'))
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    assert (tmp_path / 'whole' / 'curves.png').stat().st_size > 20_000
    log = next((tmp_path / 'parts').glob('*/vis_data/scalars.json')).read_text().splitlines()
    dense = any('dense.loss_objectness' in json.loads(line) for line in log)
    assert dense == ('Criteria' in config.read_text())

    image = digits / 'val' / '000001.jpg'
    written, found = use_everywhere(Path('whole/iter_4.pth'), image, tmp_path, tool, capsys)
    assert written == pytest.approx(found, abs=1e-3)

    result = measure(Config.fromfile(config), Workload(size=(64, 96), repeats=1), whole)
    assert {'backbone', 'neck', 'proposals', 'stage 1', 'stage 2'} <= set(result.part_seconds)


@pytest.mark.slow
@pytest.mark.parametrize('config', [f'model = dict({PROPOSALS}, {STAGE})', SLOTS['groups']],
                         ids=['proposals and stage', 'groups'], indirect=True)
def test_slots_filled_from_outside_compile(config: Path, tool: Callable[..., int], tmp_path: Path) -> None:
    assert tool('train', config, '--work-dir', 'whole') == 0
    model = Detector.from_checkpoint(tmp_path / 'whole/iter_4.pth', device='cpu', fast=False).backend.model
    images = torch.rand(1, 3, 64, 96)
    for ours, wanted in zip(fast_form(model, compile=True)(images)[-1], model(images)[-1], strict=True):
        torch.testing.assert_close(ours, wanted, rtol=1e-3, atol=1e-3)


def test_a_stage_owns_its_fast_form(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / 'tests' / 'models'))
    kind = import_module('slots_from_outside').RememberingStage
    stage, before = kind(num_classes=3, channels=C), kind.asked
    assert type(fast_stage(stage, False, None)) is kind
    assert kind.asked == before + 1
