"""Signals that ask a training to stop."""
from __future__ import annotations

import os
import signal
import threading
from types import FrameType, TracebackType
from typing import Any

# Ctrl-C; a cluster or system that shuts down; a terminal that closes; Slurm's warning before the time limit (--signal).
_SIGNALS = [getattr(signal, name) for name in ('SIGINT', 'SIGTERM', 'SIGHUP', 'SIGUSR1') if hasattr(signal, name)]


class Stopped(Exception):
    """Training was asked to stop, and does at the end of an iteration or in the middle of a validation."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.status = 128 + number  # of the process, by convention


class StopSignals:
    """Notes signals while it is entered, for `pending` to be looked at where training can stop.

    A second Ctrl-C raises KeyboardInterrupt at once, unless a launcher passes signals on, which then come twice.
    """

    def __init__(self) -> None:
        self.insist = 'TORCHELASTIC_RUN_ID' not in os.environ
        self.pending = 0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():  # Python allows handlers there only
            for number in _SIGNALS:
                if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup leaves SIGHUP
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
