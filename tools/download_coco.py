"""Fetch COCO 2017 into the folders that the configs expect, with nothing but the standard library.

A download that was cut off goes on where it stopped, every archive is checked by its MD5 sum before it is unpacked,
and what is complete already is skipped.
"""
from __future__ import annotations

import argparse
import hashlib
import http.client
import shutil
import sys
import time
import urllib.request
import zipfile
from dataclasses import dataclass
from pathlib import Path

CHUNK = 1 << 20
TIMEOUT = 60


class DownloadError(Exception):
    """One sentence that says what went wrong, where, and what to do."""


@dataclass(frozen=True)
class Archive:
    """An archive of the COCO site: its path there, size in bytes, MD5 sum, and the pattern and count of its files."""
    path: str
    size: int
    md5: str
    pattern: str
    count: int

    def complete(self, root: Path) -> bool:
        """Whether its files are all under `root`; also true for a COCO that was put there by other means."""
        return sum(1 for _ in root.glob(self.pattern)) >= self.count


# Sizes and sums are those of the files at images.cocodataset.org; several public scripts check the same sums.
ARCHIVES = {
    'train2017': Archive('zips/train2017.zip', 19336861798, 'cced6f7f71b7629ddf16f17bbcfab6b2',
                         'train2017/*.jpg', 118287),
    'val2017': Archive('zips/val2017.zip', 815585330, '442b8da7639aecaf257c1dceb8ba8c80', 'val2017/*.jpg', 5000),
    'annotations': Archive('annotations/annotations_trainval2017.zip', 252907541, 'f4bbac642086de4f52a3fdda2de5fa2c',
                           'annotations/instances_*2017.json', 2),
}


class Progress:
    """One line on stderr with the share done, the speed and the time left; a new line each 30 s when not a terminal."""

    def __init__(self, label: str, total: int, done: int = 0) -> None:
        self._label, self._total, self._done, self._before = label, total, done, done
        self._live = sys.stderr.isatty()
        self._start = self._shown = time.monotonic()

    def add(self, amount: int) -> None:
        """Count `amount` more bytes as done."""
        self._done += amount
        now = time.monotonic()
        if now - self._shown >= (0.1 if self._live else 30):
            self._shown = now
            self._show(now)

    def _show(self, now: float) -> None:
        speed = (self._done - self._before) / max(now - self._start, 1e-3)
        left = round((self._total - self._done) / speed) if speed else 0
        line = (f'{self._label}: {self._done / self._total:.1%} of {self._total / 1e6:,.1f} MB, '
                f'{speed / 1e6:.1f} MB/s, {left // 3600}:{left // 60 % 60:02d}:{left % 60:02d} left')
        print(f'\r{line:<79}' if self._live else line, end='' if self._live else '\n', file=sys.stderr, flush=True)

    def close(self) -> None:
        """Show the last state and end the line."""
        self._show(time.monotonic())
        if self._live:
            print(file=sys.stderr)


def fetch(url: str, target: Path, size: int) -> None:
    """Download `url` to `target`, going on from the bytes that are there; tries again as long as each try adds some."""
    have = size_of(target)
    while have < size:
        reason = _fetch_once(url, target, size)
        before, have = have, size_of(target)
        if have <= before:
            raise DownloadError(f'cannot download {url} ({reason}): check the network and run the same command again, '
                                f'it goes on from the {have / 1e6:,.1f} MB that are in {target.parent}')


def _fetch_once(url: str, target: Path, size: int) -> str:
    """Download until the end or a break; returns why it ended."""
    have = size_of(target)
    request = urllib.request.Request(url, headers={'Range': f'bytes={have}-'} if have else {})
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
            resumed = answer.status == 206
            progress = Progress(target.name, size, have if resumed else 0)
            with target.open('ab' if resumed else 'wb') as file:
                while chunk := answer.read(CHUNK):
                    file.write(chunk)
                    progress.add(len(chunk))
            progress.close()
    except (OSError, http.client.HTTPException) as error:
        return str(getattr(error, 'reason', None) or error)
    return 'the server sent no more'


def size_of(path: Path) -> int:
    """Size of a file in bytes; 0 when there is none."""
    return path.stat().st_size if path.exists() else 0


def md5_of(path: Path) -> str:
    """MD5 sum of a file, with progress."""
    digest, progress = hashlib.md5(usedforsecurity=False), Progress(f'check {path.name}', size_of(path))
    with path.open('rb') as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
            progress.add(len(chunk))
    progress.close()
    return digest.hexdigest()


def unpack(archive: Path, root: Path) -> None:
    """Unpack a zip file under `root`; a file gets its name when it is whole, so that a break leaves no half files."""
    with zipfile.ZipFile(archive) as file:
        members = [member for member in file.infolist() if not member.is_dir()]
        progress = Progress(f'unpack {archive.name}', sum(member.file_size for member in members))
        for member in members:
            target = root / member.filename
            target.parent.mkdir(parents=True, exist_ok=True)
            partial = target.with_name(target.name + '.partial')
            with file.open(member) as source, partial.open('wb') as sink:
                shutil.copyfileobj(source, sink)
            partial.replace(target)
            progress.add(member.file_size)
        progress.close()


def obtain(name: str, root: Path, mirror: str, keep_zip: bool) -> None:
    """Download, check and unpack one archive, unless its files are there."""
    archive = ARCHIVES[name]
    if archive.complete(root):
        print(f'{name}: already complete in {root}')
        return
    zip_path = root / Path(archive.path).name
    # The unpacked pictures take about as much space as their archive.
    need, free = 2 * archive.size - size_of(zip_path), shutil.disk_usage(root).free
    if free < need:
        raise DownloadError(f'{name} needs {need / 1e9:.1f} GB on the disk of {root}, which has {free / 1e9:.1f} GB '
                            'free: make room, or choose another place with --root')
    fetch(f'{mirror.rstrip("/")}/{archive.path}', zip_path, archive.size)
    if (found := md5_of(zip_path)) != archive.md5:
        raise DownloadError(f'{zip_path} is damaged (MD5 {found}, expected {archive.md5}): delete it and run the same '
                            'command again')
    unpack(zip_path, root)
    if not archive.complete(root):
        raise DownloadError(f'{zip_path} was unpacked but {root} lacks some of {archive.pattern}')
    if not keep_zip:
        zip_path.unlink()
    print(f'{name}: complete in {root}')


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--root', type=Path, default=Path('data/coco'), help='where to put it (default: %(default)s)')
    parser.add_argument('--splits', nargs='+', choices=ARCHIVES, default=list(ARCHIVES), metavar='SPLIT',
                        help='of ' + ', '.join(ARCHIVES) + ' (default: all, 20.4 GB to download)')
    parser.add_argument('--keep-zips', action='store_true', help='keep the archives after unpacking')
    parser.add_argument('--mirror', default='http://images.cocodataset.org', help='where from (default: %(default)s)')
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Run the tool; returns the exit status."""
    args = parse_args(argv)
    try:
        args.root.mkdir(parents=True, exist_ok=True)
        for name in args.splits:
            obtain(name, args.root, args.mirror, args.keep_zips)
    except (DownloadError, OSError, zipfile.BadZipFile) as error:
        print(f'error: {error}', file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f'\nstopped; run the same command again, it goes on from {args.root}', file=sys.stderr)
        return 130
    return 0


if __name__ == '__main__':
    sys.exit(main())
