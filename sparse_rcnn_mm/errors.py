"""Errors that are part of the interface."""
from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager


class UserError(Exception):
    """Bad input or a missing resource, told in one sentence: what is wrong, where, and what to do.

    The command line tools print the sentence without a traceback and exit with status 1.
    """


@contextmanager
def one_sentence() -> Iterator[None]:
    """Print a `UserError` raised inside as one line on stderr and exit with status 1."""
    try:
        yield
    except UserError as error:
        print(f'error: {error}', file=sys.stderr)
        sys.exit(1)
