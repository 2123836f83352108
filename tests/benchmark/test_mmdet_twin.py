"""mmdet's detectors for our configs. They are built here; to run them, mmcv needs compiled operations."""
from __future__ import annotations

import pytest
from mmengine.config import Config

from sparse_rcnn_mm.benchmark.mmdet_twin import build_twin
from sparse_rcnn_mm.benchmark.workload import build_model
from sparse_rcnn_mm.errors import UserError
from tests.kit import CONFIGS


@pytest.mark.parametrize('name', ['sparse_rcnn_r18_digits', 'queryinst_r18_digits'])
def test_the_weights_of_a_model_fit_exactly(name: str) -> None:
    config = Config.fromfile(CONFIGS / f'{name}.py')
    model = build_model(config)
    twin = build_twin(config, model.state_dict())
    assert type(twin).__module__.startswith('mmdet.') and type(twin).__name__ == type(model).__name__
    ours, theirs = model.state_dict(), twin.state_dict()
    assert set(ours) == set(theirs) and all((theirs[name] == value).all() for name, value in ours.items())


@pytest.mark.parametrize('name', ['sqr_r18_digits', 'adamixer_r18_digits'])
def test_what_mmdet_does_not_have_is_not_compared(name: str) -> None:
    """SQR has plain weights, but another training step."""
    with pytest.raises(UserError, match='--against mmdet: mmdet has no such model'):
        build_twin(Config.fromfile(CONFIGS / f'{name}.py'), {})
