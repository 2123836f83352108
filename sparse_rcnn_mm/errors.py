"""Errors that users can act on, and how they are shown."""
from __future__ import annotations

import atexit
import difflib
import gc
import inspect
import re
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from .terminal import complain, guard


class UserError(Exception):
    """Bad input or a missing resource. The message is one sentence: what is wrong, where, and what to do.

    The commands print it without a traceback and exit with status 1.
    """


def in_short(error: Exception, most: int = 300) -> str:
    """The message of an error in one line of at most `most` characters."""
    return ' '.join(str(error).split())[:most]


@contextmanager
def refusing(sentence: Callable[[str], str]) -> Iterator[None]:
    """A context for using what a stranger may have made: any error, which can be of any kind, becomes a UserError.

    Args:
        sentence: makes the message from the kind and the message of the error.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        raise UserError(sentence(f'{type(error).__name__}: {in_short(error)}')) from error


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return " (did you mean 'NAME'?)" with the most similar known name, or '' if none is similar."""
    by_lower_case = {one.lower(): one for one in known}
    near = difflib.get_close_matches(name.lower(), by_lower_case, 1)
    return f" (did you mean '{by_lower_case[near[0]]}'?)" if near else ''


def _unknown_setting(error: Exception, kind: str, setting: str) -> str:
    def of_this_name(value: Any) -> type | None:
        parents = value.__mro__ if isinstance(value, type) else ()
        return next((parent for parent in parents if parent.__name__ == kind), None)

    called = _in_frames(error, of_this_name)
    known = [name for name in inspect.signature(called.__init__).parameters if name != 'self'] if called else []
    return f"{kind} has no argument '{setting}'{did_you_mean(setting, known)}: correct it in the config"


def _missing_setting(error: Exception, kind: str, settings: str) -> str:
    return f'the config does not give {kind} the setting {settings}'


def _unknown_type(error: Exception, name: str, node: str) -> str:
    registry = _in_frames(error, lambda value: value if hasattr(type(value), 'module_dict') else None)
    known: set[str] = set()
    while registry is not None:
        known |= set(registry.module_dict)
        registry = registry.parent
    return (f"the config names the {node} '{name}', which does not exist{did_you_mean(name, known)}: check it, or "
            'import its module by custom_imports')


def _in_frames(error: Exception, wanted: Callable[[Any], Any]) -> Any:
    """Search the local variables in an error's traceback, innermost function first, for the first wanted value.

    The message names a class or a registry, but the object itself is needed to list its arguments or names.
    """
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    found = (wanted(value) for frame in reversed(frames) for value in frame.f_locals.values())
    return next((value for value in found if value is not None), None)


class NotFinite(UserError):
    """A loss, gradient or prediction is NaN or infinite. Training adds to the message where and when.

    Attributes:
        predictions: whether it is a prediction. Then the weights or the precision are the cause, not the annotations.
    """

    def __init__(self, message: str, predictions: bool = False) -> None:
        super().__init__(message)
        self.predictions = predictions


# Messages of Python and mmengine about unknown settings and types in a config, and the functions that rewrite them.
_CONFIG_ERRORS: list[tuple[str, Callable[..., str]]] = [
    (r"(\w+)\.__init__\(\) got an unexpected keyword argument '(\w+)'", _unknown_setting),
    (r'(\w+)\.__init__\(\) missing \d+ required .*?arguments?: (.+)', _missing_setting),
    (r'(\S+) is not in the (?:\S+::)?([\w ]+) registry', _unknown_type),
]


def _sentence(error: Exception) -> str | None:
    """The message for an error that a user can act on, None for any other error."""
    text = str(error.args[0]) if error.args else ''
    if isinstance(error, UserError):
        # A data loader's worker adds its traceback to the message, and upstream mmengine the class being built.
        return re.sub(r'^class `\w+` in \S+: ', '', text.split(f'{__name__}.UserError: ')[-1].strip())
    for pattern, sentence in _CONFIG_ERRORS:
        if isinstance(error, TypeError | KeyError) and (match := re.search(pattern, text)):
            return sentence(error, *match.groups())
    return None


@contextmanager
def one_sentence() -> Iterator[None]:
    """Print an error that a user can act on as one line on stderr, and exit with status 1. Others pass through.

    Ctrl-C also prints one line, and exits with status 130.
    """
    guard()
    atexit.register(gc.freeze)  # else Python looks for garbage while it exits: half a second once PyTorch is loaded
    try:
        yield
    except Exception as error:
        sentence = _sentence(error)
        if sentence is None:
            raise
        complain(f'error: {sentence}')
        sys.exit(1)
    except KeyboardInterrupt:
        complain('interrupted')
        sys.exit(130)  # 128 + the number of the signal, by convention
