"""A finding in words."""
from __future__ import annotations

from dataclasses import dataclass

FAULT, WARNING, NOTE = 'fault', 'warning', 'note'


@dataclass(frozen=True)
class Verdict:
    """One finding in words.

    Attributes:
        kind: `FAULT`, `WARNING` or `NOTE`.
        sentence: the finding.
        mend: how to fix it; '' if there is nothing to do.
    """
    kind: str
    sentence: str
    mend: str = ''

    def __str__(self) -> str:
        return f'{self.sentence}{f": {self.mend}" if self.mend else ""}'
