"""The arithmetic of measurements, with a clock that is set by hand."""
from collections.abc import Callable

import pytest
import torch
from torch import nn

from sparse_rcnn_mm.benchmark.timing import Spread, alternate, peak_memory, ratio


def test_spread_is_the_quartiles() -> None:
    assert Spread.of([5., 1., 2., 4., 3.]) == Spread(2., 3., 4.)
    assert Spread.of([7.]) == Spread(7., 7., 7.)
    assert Spread(1., 2., 3.).text(1) == '2.0 (1.0..3.0)'


def test_runs_take_turns_after_a_warm_up() -> None:
    order: list[str] = []

    def run(name: str, seconds: float) -> Callable[[], float]:
        def go() -> float:
            order.append(name)
            return seconds
        return go

    seconds = alternate({'a': run('a', 2.), 'b': run('b', 3.)}, 3, warmup=1)
    assert ''.join(order) == 'ab' + 'ababab'
    assert seconds == {'a': [2.] * 3, 'b': [3.] * 3}
    assert ratio(seconds, 'b', 'a') == Spread(1.5, 1.5, 1.5)


def test_ratio_is_taken_pair_by_pair() -> None:
    """A disturbance that doubles one pair leaves the ratio alone; the ratio of the medians would be 3."""
    seconds = {'slow': [2., 4., 6.], 'fast': [1., 2., 2.]}
    assert ratio(seconds, 'slow', 'fast').median == 2.


def test_peak_memory_sees_what_is_freed_again() -> None:
    size = 64  # MiB
    memory = peak_memory(lambda: float(torch.ones(size * 2**18).sum()))
    if memory is None:
        pytest.skip('the system does not tell')
    assert size * 0.9 < memory < size * 1.5
    model = nn.Linear(8, 8)
    assert peak_memory(lambda: model(torch.ones(1, 8))) < 8
