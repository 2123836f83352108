r"""Everything that this package writes to a terminal goes through here.

Names of classes and files, keys and messages may come from a file of a stranger. Characters in them that a terminal
obeys (escape sequences, carriage returns) or that change the order of what is shown (bidirectional overrides) are
written as Python writes them in source code, such as `\x1b` and `\u202e`.
"""
from __future__ import annotations

import logging
import os
import re
import shlex
import sys
import threading
import traceback
import unicodedata
import warnings
from types import TracebackType
from typing import Any, TextIO

# Control characters, what formats or breaks text without being seen, and halves of surrogate pairs.
_UNSEEN = {'Cc', 'Cf', 'Cs', 'Zl', 'Zp'}
_JOINERS = '\u200c\u200d'  # of words in Persian and Indian scripts, and of emoji
_MAYBE_UNSEEN = re.compile(r'[^ -~]')
_format_warning = warnings.formatwarning


def visible(text: object, keep: str = '\n\t') -> str:
    """The text with characters that a terminal would obey, or show as nothing, as escapes; those in `keep` stay."""
    def shown(match: re.Match[str]) -> str:
        character = match[0]
        if unicodedata.category(character) not in _UNSEEN or character in keep or character in _JOINERS:
            return character
        return character.encode('unicode_escape', 'surrogatepass').decode('ascii')
    return _MAYBE_UNSEEN.sub(shown, str(text))


def one_line(text: object) -> str:
    """`visible`, with line breaks and tabs as escapes, too: for names, which could look like a message of their own."""
    return visible(text, keep='')


def shell_word(text: object, otherwise: str) -> str:
    """The text as one word of a POSIX shell's command line, for a command to be copied from a message.

    Args:
        otherwise: what stands in for a text that cannot be shown as it is.
    """
    return shlex.quote(str(text)) if one_line(text) == str(text) else otherwise


def show(text: object = '', stream: TextIO | None = None) -> None:
    """Print text of one or more lines; letters that the terminal's encoding lacks become escapes."""
    _write(f'{visible(text)}\n', stream or sys.stdout)


def say(*lines: object) -> None:
    """Show the lines in the first process only."""
    if int(os.environ.get('RANK', os.environ.get('SLURM_PROCID', 0))) == 0:
        show('\n'.join(map(str, lines)))


def complain(sentence: object) -> None:
    """Show one line on stderr."""
    _write(f'{one_line(sentence)}\n', sys.stderr)


def overwrite(line: object) -> None:
    """Show one line on stderr in place of the one before, without an end, for progress on a terminal."""
    _write(f'\r{one_line(line):<79}', sys.stderr)


def _write(text: str, stream: TextIO) -> None:
    encoding = getattr(stream, 'encoding', None) or 'utf-8'
    stream.write(text.encode(encoding, 'backslashreplace').decode(encoding))
    stream.flush()


def guard() -> None:
    """In this process, make what others write visible as well: logs, warnings and tracebacks."""
    logging.setLogRecordFactory(_record)
    warnings.formatwarning = lambda *args, **kwargs: visible(_format_warning(*args, **kwargs))
    sys.excepthook = _show_exception
    threading.excepthook = lambda of: _show_exception(of.exc_type, of.exc_value, of.exc_traceback)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, 'reconfigure'):
            stream.reconfigure(errors='backslashreplace')


def _record(*args: Any, **kwargs: Any) -> logging.LogRecord:
    record = logging.LogRecord(*args, **kwargs)
    record.msg, record.args = visible(record.getMessage()), ()
    if record.exc_info and record.exc_info[0]:
        record.exc_text = visible(''.join(traceback.format_exception(*record.exc_info)).rstrip('\n'))
    return record


def _show_exception(kind: type[BaseException], error: BaseException | None, trace: TracebackType | None) -> None:
    show(''.join(traceback.format_exception(kind, error, trace)).rstrip('\n'), sys.stderr)
