"""Errors that are part of the interface."""
from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager


class UserError(Exception):
    """Bad input or a missing resource, told in one sentence: what is wrong, where, and what to do.

    The command line tools print the sentence without a traceback and exit with status 1.
    """


class NotFinite(UserError):
    """A loss, gradient or prediction is NaN or infinite: the clause that says so. Training adds where and when.

    Attributes:
        predictions: it is a prediction, so the weights are to blame, or the precision, and not the annotations.
    """

    def __init__(self, message: str, predictions: bool = False) -> None:
        super().__init__(message)
        self.predictions = predictions


# What Python and mmengine say of a config with a setting or a type that does not exist, and how we say it.
_CONFIG_ERRORS = [
    (r"(\w+)\.__init__\(\) got an unexpected keyword argument '(\w+)'",
     r"the config gives {0} the setting '{1}', which it does not have: check its spelling"),
    (r'(\w+)\.__init__\(\) missing \d+ required .*?arguments?: (.+)', r'the config does not give {0} the setting {1}'),
    (r'(\S+) is not in the (?:\S+::)?([\w ]+) registry',
     "the config names the {1} '{0}', which does not exist: check it, or import its module by custom_imports"),
]


def _sentence(error: Exception) -> str | None:
    """The sentence for an error that a user can act on, None for any other."""
    text = str(error.args[0]) if error.args else ''
    if isinstance(error, UserError):
        # A data loader's worker puts its traceback around the message, and upstream mmengine the class it was building.
        return re.sub(r'^class `\w+` in \S+: ', '', text.split(f'{__name__}.UserError: ')[-1].strip())
    for pattern, sentence in _CONFIG_ERRORS:
        if isinstance(error, TypeError | KeyError) and (match := re.search(pattern, text)):
            return sentence.format(*match.groups())
    return None


@contextmanager
def one_sentence() -> Iterator[None]:
    """Print an error that a user can act on as one line on stderr, and exit with status 1. Others pass through.

    Ctrl-C is one line as well, with the status 130.
    """
    try:
        yield
    except Exception as error:
        sentence = _sentence(error)
        if sentence is None:
            raise
        print(f'error: {sentence}', file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print('interrupted', file=sys.stderr)
        sys.exit(130)  # 128 + the number of the signal, by convention
