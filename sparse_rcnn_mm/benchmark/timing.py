"""Measure time and memory so that the numbers are usable on a busy machine."""
from __future__ import annotations

import ctypes
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch


@dataclass(frozen=True)
class Spread:
    """The median of some numbers and their quartiles."""
    low: float
    median: float
    high: float

    @classmethod
    def of(cls, numbers: list[float]) -> Spread:
        """The spread of one or more numbers."""
        if len(numbers) == 1:
            return cls(numbers[0], numbers[0], numbers[0])
        return cls(*statistics.quantiles(numbers, n=4, method='inclusive'))

    def text(self, digits: int = 3) -> str:
        """As 'median (low..high)'."""
        return f'{self.median:.{digits}f} ({self.low:.{digits}f}..{self.high:.{digits}f})'


class Clock:
    """A clock that waits until the device has finished its work.

    Args:
        device: 'cpu' or 'cuda'.
        cpu_time: count the seconds in which this process computed, instead of wall-clock time. With one thread this is
            the time on an idle machine, whatever else is running. It has an effect on the CPU only.
    """

    def __init__(self, device: str = 'cpu', cpu_time: bool = False) -> None:
        self.device = device
        self._now = time.process_time if cpu_time and device == 'cpu' else time.perf_counter

    def __call__(self) -> float:
        """Seconds since some fixed moment."""
        if self.device == 'cuda':
            torch.cuda.synchronize()
        return self._now()


    def seconds(self, run: Callable[[], object]) -> float:
        """Seconds of one call of `run`."""
        start = self()
        run()
        return self() - start


def alternate(runs: Mapping[str, Callable[[], float]], repeats: int, warmup: int = 1) -> dict[str, list[float]]:
    """Seconds of `repeats` calls of each run, which returns them.

    The runs take turns (A B A B ...), so a disturbance affects all alike.
    """
    for run in list(runs.values()) * warmup:
        run()
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(repeats):
        for name, run in runs.items():
            seconds[name].append(run())
    return seconds


def ratio(seconds: Mapping[str, list[float]], slow: str, fast: str) -> Spread:
    """Time of `slow` divided by time of `fast`, over the pairs of calls that ran one after the other."""
    return Spread.of([a / b for a, b in zip(seconds[slow], seconds[fast], strict=True)])


def peak_memory(run: Callable[[], object], device: str = 'cpu') -> float | None:
    """Peak memory of `run` in MiB beyond what was held before. None if the system does not report it."""
    if device == 'cuda':
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run()
        torch.cuda.synchronize()
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    try:
        ctypes.CDLL(None).malloc_trim(0)  # glibc: return freed memory, which would otherwise count as held before
        before = _status('VmRSS')
        Path('/proc/self/clear_refs').write_text('5')  # Linux: reset the high-water mark
        run()
        return (_status('VmHWM') - before) / 1024
    except (OSError, AttributeError):
        return None


def _status(key: str) -> int:
    """An entry of /proc/self/status, in kB."""
    lines = Path('/proc/self/status').read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key))
