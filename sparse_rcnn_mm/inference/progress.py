"""Shows the progress of a run on the terminal."""
from __future__ import annotations

import sys
from typing import Any

from sparse_rcnn_mm import terminal
from sparse_rcnn_mm.terminal import one_line


class _Silent:
    """Replaces the progress bar if tqdm is not installed."""

    def __enter__(self) -> _Silent:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def update(self, count: int) -> None:
        """Show nothing."""


def progress_bar(total: int | None) -> Any:
    """Return a context with `update(images)`, a bar on a terminal if tqdm is installed. None: the total is unknown."""
    try:
        from tqdm import tqdm
    except ImportError:
        return _Silent()
    return tqdm(total=total, unit='image', disable=None, smoothing=0.1)


def complain(message: str) -> None:
    """Print a line on stderr, above the bar if there is one."""
    try:
        from tqdm import tqdm
    except ImportError:
        terminal.complain(message)
    else:
        tqdm.write(one_line(message), file=sys.stderr)
