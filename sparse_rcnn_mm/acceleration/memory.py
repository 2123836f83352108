"""Keeps the memory of freed tensors for the next ones.

glibc, the C library of most Linux systems, gives large blocks back to Linux when they are freed, and Linux fills every
page of a new block with zeros. For the maps of large images this takes a fifth of a prediction, and a quarter of a
training step, on the CPU.
"""
from __future__ import annotations

import ctypes
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from torch import nn

# Parameters of `mallopt` (malloc.h). Outside they have the values that glibc gives them where there are large tensors.
TRIM_THRESHOLD, MMAP_THRESHOLD, MMAP_MAX = -1, -3, -4
OUTSIDE = {TRIM_THRESHOLD: 2**26, MMAP_THRESHOLD: 2**25, MMAP_MAX: 2**16}
# Gaps that images of other sizes left are given back when the process has grown by this factor.
GROWTH = 1.25


def _find_mallopt() -> Callable[[int, int], int] | None:
    """The function that sets up glibc's malloc; None without glibc, or if the user has set it up."""
    set_up = any(name.startswith('MALLOC_') or 'glibc.malloc' in value for name, value in os.environ.items())
    return None if set_up or sys.platform != 'linux' else getattr(ctypes.CDLL(None), 'mallopt', None)


_mallopt = _find_mallopt()
_lock = threading.Lock()
_entered = 0  # contexts of all threads
_resident = 0  # pages of this process when gaps were last given back


@contextmanager
def keep_memory(model: nn.Module) -> Iterator[None]:
    """Inside, if `model` is on the CPU, new tensors use memory that earlier ones left, before any from Linux.

    Some of it stays with the process afterwards. Without glibc, or if any variable for glibc's malloc is set
    (`MALLOC_PERTURB_=0` is one that changes nothing else), this does nothing.
    """
    global _entered
    parameter = next(model.parameters(), None)
    if parameter is not None and not parameter.is_cpu:
        yield
        return
    with _lock:
        _entered += 1
        if _mallopt and _entered == 1:
            _mallopt(MMAP_MAX, 0)
            _mallopt(TRIM_THRESHOLD, -1)
    try:
        yield
    finally:
        with _lock:
            _entered -= 1
            if _mallopt and not _entered:
                for option, value in OUTSIDE.items():
                    _mallopt(option, value)
                _give_back_gaps()


def _give_back_gaps() -> None:
    """Give unused memory back if the process has grown since this was last done."""
    global _resident
    try:
        resident = int(Path('/proc/self/statm').read_text().split()[1])
    except OSError:  # a container without /proc
        return
    if resident > GROWTH * _resident:
        ctypes.CDLL(None).malloc_trim(0)
        _resident = resident
