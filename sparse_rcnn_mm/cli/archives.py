"""Archives of public data sets: fetched from mirrors, checked, and unpacked. Needs only the standard library.

An interrupted download resumes where it stopped, every archive is checked by its MD5 sum before it is unpacked, and
complete parts are skipped.
"""
from __future__ import annotations

import argparse
import shutil
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from sparse_rcnn_mm.downloads import DownloadError, Progress, fetch, hash_of, size_of
from sparse_rcnn_mm.errors import UserError
from sparse_rcnn_mm.terminal import complain, show

Members = Iterator[tuple[str, int, IO[bytes]]]  # name, size and contents of each file


@dataclass(frozen=True)
class Archive:
    """An archive: its path below a mirror, size in bytes, MD5 sum, and the pattern and number of its files."""
    path: str
    size: int
    md5: str
    pattern: str
    count: int

    @property
    def name(self) -> str:
        """The file name."""
        return self.path.rpartition('/')[2]

    def url(self, mirror: str) -> str:
        """Its address at a mirror: below it, unless the mirror says by {name} where the file's name goes."""
        return mirror.replace('{name}', self.name) if '{name}' in mirror else f'{mirror.rstrip("/")}/{self.path}'

    def complete(self, root: Path) -> bool:
        """Whether all its files are under `root`, however they got there."""
        return sum(1 for _ in root.glob(self.pattern)) >= self.count


def add_arguments(parser: argparse.ArgumentParser, archives: Mapping[str, Archive], root: str,
                  mirrors: Sequence[str]) -> None:
    """Add the options that all commands for archives share."""
    size = sum(archive.size for archive in archives.values()) / 1e9
    parser.add_argument('--root', type=Path, default=Path(root), help='folder to write to (default: %(default)s)')
    parser.add_argument('--splits', nargs='+', choices=archives, default=list(archives), metavar='SPLIT',
                        help='of ' + ', '.join(archives) + f' (default: all, {size:.1f} GB to download)')
    parser.add_argument('--keep-archives', '--keep-zips', action='store_true',
                        help='keep the archives after unpacking')
    parser.add_argument('--mirror', action='append', metavar='ADDRESS',
                        help='address to download from; give several to try them in this order (default: '
                        + ', '.join(mirrors) + ')')


def obtain_all(archives: Mapping[str, Archive], args: argparse.Namespace, mirrors: Sequence[str]) -> int:
    """Obtain the archives that the command line names, and return the exit status."""
    args.root.mkdir(parents=True, exist_ok=True)
    try:
        for name in args.splits:
            obtain(name, archives[name], args.root, args.mirror or mirrors, args.keep_archives)
    except (OSError, zipfile.BadZipFile, tarfile.TarError, EOFError, zlib.error) as error:
        raise UserError(str(error)) from error
    except KeyboardInterrupt:
        show(f'\nstopped; run the same command again to resume in {args.root}', sys.stderr)
        return 130
    return 0


def obtain(name: str, archive: Archive, root: Path, mirrors: Sequence[str], keep: bool) -> None:
    """Download, check and unpack an archive, unless its files already exist."""
    if archive.complete(root):
        show(f'{name}: already complete in {root}')
        return
    path = root / archive.name
    # Unpacked images take about as much space as their archive.
    need, free = 2 * archive.size - size_of(path), shutil.disk_usage(root).free
    if free < need:
        raise UserError(f'{name} needs {need / 1e9:.1f} GB on the disk of {root}, which has {free / 1e9:.1f} GB '
                        'free: free some space, or choose another folder with --root')
    fetch_from(mirrors, archive, path)
    if (found := hash_of(path, 'md5')) != archive.md5:
        raise UserError(f'{path} is damaged (MD5 {found}, expected {archive.md5}): delete it and run the same '
                        'command again')
    unpack(path, root)
    if not archive.complete(root):
        raise UserError(f'{path} was unpacked, but some of {archive.pattern} are missing in {root}')
    if not keep:
        path.unlink()
    show(f'{name}: complete in {root}')


def fetch_from(mirrors: Sequence[str], archive: Archive, path: Path) -> None:
    """Download from the first mirror that has the file. The next one resumes what another did not finish.

    Raises:
        DownloadError: none has it.
    """
    reasons = []
    for mirror in mirrors:
        url = archive.url(mirror)
        try:
            fetch(url, path, archive.size)
            return
        except DownloadError as error:
            if len(mirrors) == 1:
                raise
            reasons.append(f'{url}: {error.reason}')
            if mirror is not mirrors[-1]:
                complain(f'cannot download {url} ({error.reason}); trying the next address')
    have = size_of(path)
    kept = f', which resumes after the {have / 1e6:,.1f} MB in {path.parent}' if have else ''
    raise DownloadError(f'cannot download {archive.name} from any of {len(mirrors)} addresses ({"; ".join(reasons)}): '
                        f'name another one with --mirror, or run the same command again later{kept}', reasons[-1])


def unpack(archive: Path, root: Path) -> None:
    """Unpack a zip or tar file under `root`. Files are renamed when complete, so an interrupt leaves no partial file.

    Raises:
        UserError: a file would be written outside of `root`. Links and devices are not written.
    """
    total, members = _zip_members(archive) if zipfile.is_zipfile(archive) else _tar_members(archive)
    progress = Progress(f'unpack {archive.name}', total)
    for name, size, source in members:
        target = root / _inside(name, archive)
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.parent.resolve().is_relative_to(root.resolve()):
            raise UserError(f'{archive} would write {name} outside of {root}, through a link: nothing more is unpacked')
        partial = target.with_name(target.name + '.partial')
        partial.unlink(missing_ok=True)  # it may be a link
        with source, partial.open('wb') as sink:
            shutil.copyfileobj(source, sink)
        partial.replace(target)
        progress.add(size)
    progress.close()


def _inside(name: str, archive: Path) -> PurePosixPath:
    """The path of a member, if it stays below the folder that it is unpacked to."""
    path = PurePosixPath(name.replace('\\', '/'))
    if path.is_absolute() or '..' in path.parts or ':' in name:
        raise UserError(f'{archive} contains {name}, which would be written outside of its folder: nothing more is '
                        'unpacked')
    return path


def _zip_members(archive: Path) -> tuple[int, Members]:
    file = zipfile.ZipFile(archive)
    members = [member for member in file.infolist() if not member.is_dir()]
    return (sum(member.file_size for member in members),
            ((member.filename, member.file_size, file.open(member)) for member in members))


def _tar_members(archive: Path) -> tuple[int, Members]:
    file = tarfile.open(archive)
    sources = ((member, file.extractfile(member)) for member in file if member.isfile())
    return size_of(archive), ((member.name, member.size, source) for member, source in sources if source is not None)
