"""Every test of the model runs in the package's scope and from the same random state."""
from collections.abc import Iterator

import pytest
import torch
from mmengine.registry import DefaultScope, init_default_scope


@pytest.fixture(autouse=True)
def scope_and_seed() -> Iterator[None]:
    before = dict(DefaultScope._instance_dict)
    init_default_scope('sparse_rcnn_mm')
    torch.manual_seed(0)
    yield
    DefaultScope._instance_dict.clear()
    DefaultScope._instance_dict.update(before)
