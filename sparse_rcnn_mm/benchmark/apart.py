"""Runs the other side of a comparison in a process of its own: memory that ours keeps would serve it, too."""
from __future__ import annotations

import multiprocessing
import tempfile
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sparse_rcnn_mm.errors import UserError


class Apart:
    """A run in another process. It computes only while this process waits for it.

    Args:
        side: has the methods of this class, and can be pickled.

    Raises:
        UserError: the other process ended.
    """

    def __init__(self, side: Any) -> None:
        context = multiprocessing.get_context('spawn')
        self._link, link = context.Pipe()
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, 'side')
            torch.save(side, file)
            self._process = context.Process(target=_serve, args=(link, str(file), torch.get_num_threads()), daemon=True)
            self._process.start()
            link.close()
            self._ask('ready')

    def seconds(self) -> float:
        """Seconds of one call."""
        return self._ask('seconds')

    def memory(self) -> float | None:
        """Peak memory of one call."""
        return self._ask('memory')

    def results(self) -> dict[str, Tensor]:
        """Results of the last call."""
        return {name: torch.from_numpy(value) for name, value in self._ask('results').items()}

    def _ask(self, question: str) -> Any:
        try:
            self._link.send(question)
            return self._link.recv()
        except (EOFError, OSError):
            raise UserError('the process of the other detector ended; its message is above') from None


def _serve(link: Connection, file: str, threads: int) -> None:
    """Answer questions until the other end is closed."""
    torch.set_num_threads(threads)
    side = torch.load(file, weights_only=False)
    answers = {'ready': lambda: None, 'seconds': side.seconds, 'memory': side.memory,
               'results': lambda: {name: value.numpy() for name, value in side.results().items()}}
    while True:
        try:
            question = link.recv()
        except EOFError:
            return
        link.send(answers[question]())
