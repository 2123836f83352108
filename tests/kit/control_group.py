"""A control group that stands in for the one of the machine."""
from __future__ import annotations

from collections.abc import Callable


def control_group(files: dict[str, str]) -> Callable[[str], str]:
    """A reader of the given files, like `sparse_rcnn_mm.cli.environment.cgroup`."""

    def read(name: str) -> str:
        if name not in files:
            raise FileNotFoundError(name)
        return files[name].strip()

    return read
