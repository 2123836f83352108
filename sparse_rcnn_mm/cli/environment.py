"""What PyTorch reads from the environment when it is loaded: threads, and how they wait."""
from __future__ import annotations

import os
from collections.abc import MutableMapping
from pathlib import Path

# A thread that waits for the others checks again this many times and then sleeps. GNU OpenMP's default is
# 300,000, so on a busy machine a waiting thread keeps a processor from the thread that it waits for.
SPINS = '1000'


def set_environment(environment: MutableMapping[str, str] = os.environ) -> None:
    """Let threads wait without occupying a processor, and use no more of them than the container may.

    A variable that the user has set stays: `GOMP_SPINCOUNT=300000` restores the default of GNU OpenMP.
    """
    if 'OMP_WAIT_POLICY' not in environment:
        environment.setdefault('GOMP_SPINCOUNT', SPINS)
    quota = cpu_quota()
    if quota is not None and quota < allowed_processors():
        environment.setdefault('OMP_NUM_THREADS', str(max(int(quota), 1)))


def allowed_processors() -> int:
    """The number of processors that this process may run on, by its affinity."""
    return len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1


def cpu_quota() -> float | None:
    """The CPU quota of the control group, in processors; None without a limit."""
    try:
        limit, period = cgroup('cpu.max').split()
        return None if limit == 'max' else int(limit) / int(period)
    except (OSError, ValueError):
        try:
            limit, period = (cgroup(f'cpu/cpu.cfs_{name}_us') for name in ('quota', 'period'))
            return int(limit) / int(period) if int(limit) > 0 else None
        except (OSError, ValueError):
            return None


def cgroup(name: str) -> str:
    """The content of a file of the control group.

    Raises:
        OSError: this system has no such file.
    """
    return Path('/sys/fs/cgroup', name).read_text().strip()
