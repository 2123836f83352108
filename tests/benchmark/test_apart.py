"""A run in another process."""
from __future__ import annotations

import pytest
import torch
from mmengine.config import Config

from sparse_rcnn_mm.benchmark.apart import Apart
from sparse_rcnn_mm.benchmark.measure import Predict, TrainStep, Workload
from sparse_rcnn_mm.benchmark.workload import build_model, images, samples
from sparse_rcnn_mm.errors import UserError

from ..models.samples import tiny_model


@pytest.mark.parametrize('kind', [Predict, TrainStep])
def test_it_computes_the_same(kind: type[Predict]) -> None:
    torch.manual_seed(0)
    model = build_model(Config(dict(model=tiny_model())))
    here = kind(model, images(1, 64, 64), samples(1, 64, 64, 3, num_classes=3), Workload())
    there = Apart(here)
    here()
    assert there.seconds() > 0
    wanted, found = here.results(), there.results()
    assert set(found) == set(wanted) and len(wanted) >= 2
    for name, value in wanted.items():
        torch.testing.assert_close(found[name], value, rtol=1e-5, atol=1e-6)
    memory = there.memory()
    assert memory is None or memory < 100
    there._process.kill()
    with pytest.raises(UserError, match='the process of the other detector ended'):
        there.seconds()
