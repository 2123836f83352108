"""Reads text files in unknown encodings: with byte order marks, in UTF-8, UTF-16, UTF-32, GBK or Latin-1."""
from __future__ import annotations

import codecs
import re
from pathlib import Path

from sparse_rcnn_mm.errors import UserError

# In this order: the mark of UTF-32 begins with that of UTF-16.
_MARKS = {codecs.BOM_UTF8: 'utf-8-sig', codecs.BOM_UTF32_LE: 'utf-32', codecs.BOM_UTF32_BE: 'utf-32',
          codecs.BOM_UTF16_LE: 'utf-16', codecs.BOM_UTF16_BE: 'utf-16'}
# XML and JSON without a mark begin with an ASCII character.
_BARE = {rb'[<{\[]\0\0\0': 'utf-32-le', rb'\0\0\0[<{\[]': 'utf-32-be',
         rb'[<{\[]\0': 'utf-16-le', rb'\0[<{\[]': 'utf-16-be'}
_SUPERSETS = {'gb2312': 'gb18030', 'gbk': 'gb18030', 'iso8859-1': 'cp1252'}  # often declared for a superset
_GUESSES = {'GBK': 'gb18030', 'Latin-1': 'cp1252'}
_HIGH = re.compile(rb'[\x80-\xff]+')
_LONGEST = 10_000  # characters of a name
_DECLARED = re.compile(rb'^\s*<\?xml[^>]*encoding\s*=\s*["\']([\w.-]+)["\']')


def read_bytes(path: Path) -> bytes:
    """Return the contents of a file.

    Raises:
        UserError: the file cannot be read.
    """
    try:
        return path.read_bytes()
    except (OSError, ValueError) as error:
        raise UserError(f'cannot read {path}: {getattr(error, "strerror", None) or error}') from error


def read_text(path: Path, notes: list[str]) -> str:
    """Return the text of a file. If the encoding had to be guessed, a line is added to `notes`.

    Raises:
        UserError: the file cannot be read, is binary, or could be in several encodings.
    """
    text = text_of(read_bytes(path), path, notes)
    if '\0' in text:
        raise UserError(f'{path} is a binary file, not text')
    return text


def text_of(data: bytes, path: Path, notes: list[str]) -> str:
    """The text of what was read from a file; an encoding that had to be guessed is told in `notes`."""
    text, guess = decode(data, path)
    if guess and not any(guess in note for note in notes):
        notes.append(f'{path.name} is not in UTF-8 and is read as {guess}, as are others like it; if names look '
                     'wrong, save them in UTF-8')
    return text


def decode(data: bytes, path: Path) -> tuple[str, str]:
    """Return the text, and the encoding if it had to be guessed (else '').

    Tries the byte order mark, the XML declaration, UTF-8, and then a guess.
    """
    for encoding in _told(data):
        try:
            return data.decode(encoding), ''
        except ValueError:
            continue
    guess = _guess(data)
    try:
        return data.decode(_GUESSES[guess]), guess
    except (KeyError, ValueError):
        raise UserError(f'{path} is not in UTF-8, and its encoding is ambiguous: save it in UTF-8') from None


def _told(data: bytes) -> list[str]:
    for mark, encoding in _MARKS.items():
        if data.startswith(mark):
            return [encoding]
    for start, encoding in _BARE.items():
        if re.match(start, data):
            return [encoding]
    declared = _DECLARED.match(data)
    try:
        codec = codecs.lookup(declared[1].decode()) if declared else codecs.lookup('utf-8')
    except LookupError:
        return ['utf-8']
    return [_SUPERSETS.get(codec.name, codec.name), 'utf-8'] if codec._is_text_encoding else ['utf-8']


def _guess(data: bytes) -> str:
    """Guess GBK or Latin-1, if only one of them is plausible.

    Chinese characters in GB2312 are pairs of bytes above 127. In Latin-1, an accented letter is usually a single such
    byte within a word of ASCII letters, rarely two.
    """
    runs = list(_HIGH.finditer(data))
    pairs = all(len(run[0]) % 2 == 0 and min(run[0]) >= 0xa1 for run in runs)
    latin = all(len(run[0]) <= 2 and re.search(rb'[A-Za-z]', data[max(run.start() - 1, 0):run.end() + 1])
                for run in runs)
    if pairs and not latin:
        return 'GBK' if _is_chinese([run[0] for run in runs]) else ''
    return 'Latin-1' if latin and not pairs else ''


def _is_chinese(runs: list[bytes]) -> bool:
    """Whether pairs of high bytes are characters of GB2312, and not as well Cyrillic ones.

    Big5 and Japanese give other characters than those of Chinese words. Cyrillic letters of one byte are from 0xc0 on:
    Chinese words that look so are rare, and uncertain.
    """
    try:
        text = ''.join(run.decode('gb2312') for run in runs)
    except ValueError:
        return False
    cyrillic = all(byte >= 0xc0 for run in runs for byte in run)
    return bool(re.fullmatch('[\u4e00-\u9fff\u3001-\u3011\uff01-\uff5e]+', text)) and not cyrillic


def name_fault(name: str) -> str:
    """Why a text cannot be a name, as the rest of a sentence; empty if it can."""
    if not name.strip():
        return 'is empty'
    if re.search(r'[\x00-\x1f\x7f-\x9f\ud800-\udfff]', name):
        return f'has characters that are not text: {name[:100]!a}'
    if len(name) > _LONGEST:
        return f'has {len(name):,} characters, more than {_LONGEST:,}: {name[:30]!a}...'
    return ''


_FLAGS = {'': False, '0': False, '0.0': False, 'false': False, 'no': False,
          '1': True, '1.0': True, 'true': True, 'yes': True}


def flag(value: object) -> bool | None:
    """Whether a flag is set, as tools write it: 1, '1.0', 'True', 'yes', .... None if that is unclear."""
    return _FLAGS.get('' if value is None else str(value).strip().lower())
