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


def score(text: str) -> float:
    """The type of arguments that are scores."""
    number = float(text)
    if not 0 <= number <= 1:
        raise argparse.ArgumentTypeError(f'{text} is not a score: scores are from 0 to 1')
    return number
