"""The argument parser of all commands."""
from __future__ import annotations

import argparse
from typing import NoReturn

from sparse_rcnn_mm.terminal import one_line


class Parser(argparse.ArgumentParser):
    """An ArgumentParser that escapes control characters in its messages: file names from `*.jpg` may contain them."""

    def error(self, message: str) -> NoReturn:
        """Print the message with control characters escaped, and exit."""
        super().error(one_line(message))
