"""The documents name what exists, and the recipes of docs/architecture.md work as they stand there."""
from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.utils import import_modules_from_strings

from sparse_rcnn_mm.registry import MODELS
from tests.kit import ROOT
from tests.models.samples import rectangles
from tests.test_rooms import FLOORS

PAGES = [ROOT / 'README.md', ROOT / 'CONTRIBUTING.md', *sorted((ROOT / 'docs').glob('*.md'))]
ARCHITECTURE = (ROOT / 'docs' / 'architecture.md').read_text()
STAGES = 2
# The recipes are for ResNet-50; this makes training on them take a second.
SMALL = {'model.backbone.depth': 18, 'model.backbone.base_channels': 8, 'model.backbone.init_cfg': None,
         'model.neck.in_channels': [8, 16, 32, 64], 'model.roi_head.num_stages': STAGES}
SMALL_STAGE = {'model.roi_head.bbox_head.feedforward_channels': 64,
               'model.roi_head.bbox_head.dynamic_conv.feat_channels': 4}
RECIPES = {match[1]: (match[0], match[2]) for match in re.findall(
    r'```python\n(# (\w+)\.py\n.+?)```\n+```python\n(_base_ = .+?)```', ARCHITECTURE, re.DOTALL)}


@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.name)
def test_pages_name_only_files_that_exist(page: Path) -> None:
    text = page.read_text()
    folders = '(?:configs|tools|sparse_rcnn_mm|tests|docs)'
    named = set(re.findall(rf'(?<![\w/.]){folders}/[\w./-]+\.(?:py|sh|md|txt)\b', text))
    assert [name for name in sorted(named) if not (ROOT / name).is_file()] == []
    linked = set(re.findall(r'\]\((?!https?://|#|\.\./\.\./actions)([^)#\s]+)', text))
    assert [name for name in sorted(linked) if not (page.parent / name).exists()] == []


def test_architecture_lists_every_room_and_every_file_of_the_model() -> None:
    named = set(re.findall(r'`([\w/.]+)`', ARCHITECTURE))
    rooms = {room for floor in FLOORS for room in floor}
    assert {room for room in rooms if not {room, f'{room}.py'} & named} == set()
    files = {f'sparse_rcnn_mm/models/{path.name}' for path in (ROOT / 'sparse_rcnn_mm/models').glob('[!_]*.py')}
    assert files <= named


@pytest.mark.parametrize('name', RECIPES)
def test_recipe_trains_and_predicts(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    code, config = RECIPES[name]
    (tmp_path / f'{name}.py').write_text(code)
    (tmp_path / 'config.py').write_text(config)
    cfg = Config.fromfile(tmp_path / 'config.py')
    import_modules_from_strings(**cfg.custom_imports)
    cfg.merge_from_dict({**SMALL, **(SMALL_STAGE if 'dynamic_conv' in cfg.model.roi_head.bbox_head else {})})
    torch.manual_seed(0)
    model: Any = MODELS.build(cfg.model).train()
    logs = model.train_step(rectangles(), build_optim_wrapper(model, cfg.optim_wrapper))
    assert all(loss.isfinite() for loss in logs.values())
    assert sum(key.endswith('loss_cls') for key in logs) == STAGES
    for sample in model.eval().test_step(rectangles()):
        scores = sample.pred_instances.scores
        assert scores.isfinite().all()
        assert (scores[:-1] >= scores[1:]).all()


def test_every_recipe_is_found() -> None:
    assert len(RECIPES) == ARCHITECTURE.count('.py\n') == 7
