"""How far a run is, on the terminal."""
from __future__ import annotations

import sys
from typing import Any

from sparse_rcnn_mm import terminal
from sparse_rcnn_mm.terminal import one_line


class _Silent:
    """In the place of a bar, where tqdm is not installed."""

    def __enter__(self) -> _Silent:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def update(self, count: int) -> None:
        """Nothing to show."""


def progress_bar(total: int | None) -> Any:
    """A context with `update(images)`; shows a bar on a terminal if tqdm is installed. None: the end is not known."""
    try:
        from tqdm import tqdm
    except ImportError:
        return _Silent()
    return tqdm(total=total, unit='image', disable=None, smoothing=0.1)


def complain(message: str) -> None:
    """A line on stderr, above the bar if there is one."""
    try:
        from tqdm import tqdm
    except ImportError:
        terminal.complain(message)
    else:
        tqdm.write(one_line(message), file=sys.stderr)
