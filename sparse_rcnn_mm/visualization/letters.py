"""Names from files as text that can be drawn."""
from __future__ import annotations

import functools
import unicodedata
from pathlib import Path

from sparse_rcnn_mm.terminal import one_line, say

try:
    import matplotlib
except ImportError:  # where only exported files are used; Pillow's own font has Latin letters
    FONT = None
else:  # it comes with DejaVu, which has Latin, Greek, Cyrillic and Arabic letters
    FONT = Path(matplotlib.get_data_path(), 'fonts', 'ttf', 'DejaVuSans.ttf')
_LONGEST = 60  # characters
_END = 12  # of them kept at the end, where a label has its score
_said: set[str] = set()


def drawable(text: str) -> str:
    """One line of characters that can be seen, without the middle of a long text.

    A letter that the font lacks is drawn as a box; the first time, that is said.
    """
    line = one_line(text)
    if len(line) > _LONGEST:
        line = f'{line[:_LONGEST - _END - 1]}…{line[-_END:]}'
    lacking = [letter for letter in line if ord(letter) not in _letters() and unicodedata.category(letter) != 'Cf']
    if lacking and not _said:
        _said.add(lacking[0])
        font = FONT.stem if FONT else 'of Pillow'
        say(f'pictures: the font {font} lacks letters of some names, such as {lacking[0]} '
            f'({unicodedata.name(lacking[0], "a letter without a name")}); a box is drawn for each')
    return line


def in_plots(text: str) -> str:
    """`drawable`, for matplotlib: without the meaning that it gives to dollar signs and to a `_` at the start."""
    line = drawable(text).replace('$', r'\$')
    return f' {line}' if line.startswith('_') else line


@functools.cache
def _letters() -> frozenset[int]:
    if FONT is None:
        return frozenset(range(0x20, 0x180))
    from matplotlib.ft2font import FT2Font
    return frozenset(FT2Font(str(FONT)).get_charmap())
