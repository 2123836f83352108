r"""All output of this package to a terminal goes through this module.

Names and messages may come from untrusted files. Characters in them that control a terminal (escape sequences, carriage
returns) or change the order of the text (bidirectional overrides) are shown as Python escapes such as `\x1b` and
`\u202e`.
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

# Control characters, invisible formatting characters and separators, and surrogates.
_UNSEEN = {'Cc', 'Cf', 'Cs', 'Zl', 'Zp'}
_JOINERS = '\u200c\u200d'  # needed in Persian and Indic scripts, and in emoji
_MAYBE_UNSEEN = re.compile(r'[^ -~]')
_format_warning = warnings.formatwarning


def visible(text: object, keep: str = '\n\t') -> str:
    """Escape control characters and invisible characters in a text, except those in `keep`."""
    def shown(match: re.Match[str]) -> str:
        character = match[0]
        if unicodedata.category(character) not in _UNSEEN or character in keep or character in _JOINERS:
            return character
        return character.encode('unicode_escape', 'surrogatepass').decode('ascii')
    return _MAYBE_UNSEEN.sub(shown, str(text))


def one_line(text: object) -> str:
    """Like `visible`, but also escapes line breaks and tabs. For names, which could otherwise imitate a message."""
    return visible(text, keep='')


def shell_word(text: object, otherwise: str) -> str:
    """Quote a text as one word for a POSIX shell, for commands in messages that users copy.

    Args:
        text: a path or name.
        otherwise: the replacement for a text with characters that would be escaped.
    """
    return shlex.quote(str(text)) if one_line(text) == str(text) else otherwise


def show(text: object = '', stream: TextIO | None = None) -> None:
    """Print one or more lines of text. Letters that the terminal's encoding lacks are escaped."""
    _write(f'{visible(text)}\n', stream or sys.stdout)


def say(*lines: object) -> None:
    """Show the lines in the first process only."""
    if int(os.environ.get('RANK', os.environ.get('SLURM_PROCID', 0))) == 0:
        show('\n'.join(map(str, lines)))


def warn(message: object) -> None:
    """Log a warning with mmengine, or show it on stderr where mmengine is not in use."""
    if 'mmengine' in sys.modules:
        from mmengine.logging import MMLogger
        MMLogger.get_current_instance().warning(visible(message))
    else:
        complain(f'warning: {message}')


def complain(sentence: object) -> None:
    """Show one line on stderr."""
    _write(f'{one_line(sentence)}\n', sys.stderr)


def overwrite(line: object) -> None:
    """Replace the current line on stderr, without a line break, to show progress on a terminal."""
    _write(f'\r{one_line(line):<79}', sys.stderr)


def _write(text: str, stream: TextIO) -> None:
    encoding = getattr(stream, 'encoding', None) or 'utf-8'
    stream.write(text.encode(encoding, 'backslashreplace').decode(encoding))
    stream.flush()


def guard() -> None:
    """Also escape what other packages write in this process: logs, warnings and tracebacks."""
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
