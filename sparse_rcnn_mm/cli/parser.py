"""The parser of all command lines."""
from __future__ import annotations

import argparse
from typing import NoReturn

from sparse_rcnn_mm.terminal import one_line


class Parser(argparse.ArgumentParser):
    """One whose complaints hold what it was given as visible text: `*.jpg` hands it file names."""

    def error(self, message: str) -> NoReturn:
        super().error(one_line(message))
