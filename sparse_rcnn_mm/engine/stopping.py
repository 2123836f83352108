"""Stops a training cleanly on signals."""
from __future__ import annotations

import os
import signal
import threading
from types import FrameType, TracebackType
from typing import Any

# Ctrl-C; shutdown of a job or machine; a closed terminal; Slurm's warning before the time limit (--signal).
_SIGNALS = [getattr(signal, name) for name in ('SIGINT', 'SIGTERM', 'SIGHUP', 'SIGUSR1') if hasattr(signal, name)]


class Stopped(Exception):
    """Raised to stop training after a signal, at the end of an iteration or in the middle of a validation."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.status = 128 + number  # the conventional exit status


class StopSignals:
    """A context that records stop signals in `pending`. Training checks it wherever it can stop.

    A second Ctrl-C raises KeyboardInterrupt at once, except under a launcher, which may deliver a signal twice.
    """

    def __init__(self) -> None:
        self.insist = 'TORCHELASTIC_RUN_ID' not in os.environ
        self.pending = 0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():  # the only thread that may set handlers
            for number in _SIGNALS:
                if signal.getsignal(number) is not signal.SIG_IGN:  # nohup ignores SIGHUP
                    self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 traceback: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.insist and number == self.pending == signal.SIGINT:
            raise KeyboardInterrupt
        self.pending = self.pending or number
