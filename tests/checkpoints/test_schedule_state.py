"""Checkpoints of a one-cycle training hold a reference to its curve, which safe reading admits, and only that."""
from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.optim import OneCycleLR

from sparse_rcnn_mm.checkpoints import read_checkpoint
from sparse_rcnn_mm.errors import UserError


class Attribute:
    """Pickles as `getattr(owner, name)`."""

    def __init__(self, owner: Any, name: str) -> None:
        self.call = (owner, name)

    def __reduce__(self) -> tuple:
        return getattr, self.call


@pytest.mark.parametrize('curve', ['cos', 'linear'])
def test_one_cycle_state_goes_on_where_it_was(tmp_path: Path, curve: str) -> None:
    def schedule() -> OneCycleLR:
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
        return OneCycleLR(optimizer, eta_max=1.0, total_steps=10, anneal_strategy=curve)

    first, second = schedule(), schedule()
    for _ in range(4):
        first.optimizer.step()
        first.step()
    torch.save({'param_schedulers': first.state_dict()}, tmp_path / 'a.pth')
    second.load_state_dict(read_checkpoint(tmp_path / 'a.pth')['param_schedulers'])
    for scheduler in (first, second):
        scheduler.optimizer.param_groups[0]['lr'] = first.get_last_value()[0]
        scheduler.step()
    assert second.get_last_value() == pytest.approx(first.get_last_value(), rel=1e-9)


@pytest.mark.parametrize('attribute', [Attribute(OneCycleLR, '__init__'), Attribute([], 'append')])
def test_other_attributes_are_refused(tmp_path: Path, attribute: Attribute) -> None:
    torch.save({'x': attribute}, tmp_path / 'a.pth')
    with pytest.raises(UserError, match='contains more than data'):
        read_checkpoint(tmp_path / 'a.pth')
