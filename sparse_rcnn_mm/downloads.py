"""Resumable downloads, with only the standard library."""
from __future__ import annotations

import hashlib
import http.client
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

from .errors import UserError
from .terminal import complain, overwrite

CHUNK = 1 << 20
TIMEOUT = 60
NOT_SATISFIABLE = 416  # the server has no more bytes than the local file


class DownloadError(UserError):
    """A failed download. `reason` is the cause alone, for callers that write their own message."""

    def __init__(self, sentence: str, reason: str) -> None:
        super().__init__(sentence)
        self.reason = reason


class Progress:
    """Shows progress, speed and remaining time on one line of stderr. Without a terminal, prints a line every 30 s."""

    def __init__(self, label: str, total: int, done: int = 0) -> None:
        self._label, self._total, self._done, self._before = label, total, done, done
        self._live = sys.stderr.isatty()
        self._start = self._shown = time.monotonic()

    def add(self, amount: int) -> None:
        """Add `amount` bytes to the progress."""
        self._done += amount
        now = time.monotonic()
        if now - self._shown >= (0.1 if self._live else 30):
            self._shown = now
            self._show(now)

    def _show(self, now: float) -> None:
        speed = (self._done - self._before) / max(now - self._start, 1e-3)
        left = round((self._total - self._done) / speed) if speed else 0
        line = (f'{self._label}: {self._done / max(self._total, 1):.1%} of {self._total / 1e6:,.1f} MB, '
                f'{speed / 1e6:.1f} MB/s, {left // 3600}:{left // 60 % 60:02d}:{left % 60:02d} left')
        (overwrite if self._live else complain)(line)

    def close(self) -> None:
        """Show the final state and end the line."""
        self._show(time.monotonic())
        if self._live:
            complain('')


def fetch(url: str, target: Path, size: int | None = None) -> None:
    """Download `url` to `target`, resuming from the bytes already there. Retries as long as each try adds some.

    Args:
        url: an http or https address.
        target: the file. If this raises, the partial file is kept, and the next call resumes from it.
        size: the size in bytes. By default, the size that the server states.

    Raises:
        DownloadError: the server cannot be reached, refuses, or stops sending.
    """
    while size is None or size_of(target) < size:
        before = size_of(target)
        total, reason = _fetch_once(url, target, size)
        size = size or total
        if size_of(target) <= before and (size is None or size_of(target) < size):
            raise DownloadError(f'cannot download {url} ({reason}): {_advice(reason, target)}', reason)


def _advice(reason: str, target: Path) -> str:
    if reason.startswith('HTTP Error 4'):
        return 'the address is wrong, or the file no longer exists'
    have = size_of(target)
    kept = f', which resumes after the {have / 1e6:,.1f} MB in {target.parent}' if have else ''
    return f'check the network and run the same command again{kept}'


def _fetch_once(url: str, target: Path, size: int | None) -> tuple[int | None, str]:
    """Download until the end or an interruption. Returns the total size, if known, and why the download ended."""
    have = size_of(target)
    request = urllib.request.Request(url, headers={'Range': f'bytes={have}-'} if have else {})
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
            resumed = answer.status == 206
            length = answer.headers.get('Content-Length')
            told = int(length) + have * resumed if length else None
            if size and told not in (None, size):
                return size, f'the file there has {told} bytes instead of {size}'
            size = size or told
            progress = Progress(target.name.removesuffix('.partial'), size or 0, have if resumed else 0)
            with target.open('ab' if resumed else 'wb') as file:
                while chunk := answer.read(CHUNK):
                    file.write(chunk)
                    progress.add(len(chunk))
            progress.close()
            return size or size_of(target), 'the server sent no more'
    except urllib.error.HTTPError as error:
        whole = error.headers.get('Content-Range', '').rpartition('/')[2] if error.code == NOT_SATISFIABLE else ''
        return (int(whole) if whole.isdigit() else size), str(error)
    except (OSError, http.client.HTTPException) as error:
        return size, str(getattr(error, 'reason', None) or error)


def size_of(path: Path) -> int:
    """The size of a file in bytes; 0 if it does not exist."""
    return path.stat().st_size if path.exists() else 0


def hash_of(path: Path, kind: str) -> str:
    """The hash of a file in hexadecimal digits, with progress. `kind` is a name of hashlib: md5, sha256, ..."""
    digest, progress = hashlib.new(kind, usedforsecurity=False), Progress(f'check {path.name}', size_of(path))
    with path.open('rb') as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
            progress.add(len(chunk))
    progress.close()
    return digest.hexdigest()
