"""Lists a folder once: all files that may be read, and the skipped ones with the reason."""
from __future__ import annotations

import os
import stat
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sparse_rcnn_mm.errors import UserError
from sparse_rcnn_mm.own_outputs import is_own_folder, is_own_json

from .image_files import is_image

OWN = 'written by sparse_rcnn_mm'
_SHOWN = 3  # names in a line


@dataclass
class Scan:
    """The files of a data set, in alphabetical order.

    Attributes:
        root: the folder, with links and `..` resolved.
        files: all regular files that are not hidden.
        chosen: the files that may be annotations: all, or the single file that was named.
        skipped: reason -> files and folders that are not read.
    """
    root: Path
    files: list[Path] = field(default_factory=list)
    chosen: list[Path] = field(default_factory=list)
    skipped: dict[str, list[Path]] = field(default_factory=lambda: defaultdict(list))

    @property
    def images(self) -> list[Path]:
        """The image files."""
        return [path for path in self.files if is_image(path)]

    @property
    def skipped_lines(self) -> list[str]:
        """One line for the user per reason why files are not read."""
        return [f'not read: {names_of(paths, self.root)} ({reason})' for reason, paths in self.skipped.items() if paths]

    def with_suffix(self, *suffixes: str) -> Iterator[Path]:
        """The possible annotation files with one of these suffixes."""
        return (path for path in self.chosen if path.suffix.lower() in suffixes)


def names_of(paths: Sequence[Path], root: Path) -> str:
    """The first few paths relative to `root`, and the number of the others."""
    more = f', ... ({len(paths) - _SHOWN} more)' if len(paths) > _SHOWN else ''
    return ', '.join(os.path.relpath(path, root) for path in paths[:_SHOWN]) + more


def scan(path: str | os.PathLike) -> Scan:
    """List a folder, or the folder of an annotation file.

    Raises:
        UserError: the path does not exist, is the root of the disk, or was written by this package.
    """
    try:
        place = Path(path).expanduser()
        if not place.exists():
            raise UserError(f'there is no folder {place.absolute()}')
        named_file = None if place.is_dir() else place.parent.resolve() / place.name
        root = (named_file.parent if named_file else place).resolve()
    except (ValueError, RuntimeError, OSError) as error:  # a NUL byte, no such home, a loop of links
        raise UserError(f'{str(path)!r} is not a valid path: {error}') from error
    if named_file and not named_file.is_file():
        raise UserError(f'{named_file} is neither a folder nor a regular file')
    if named_file and root.name.lower().startswith('annotations'):
        root = root.parent  # COCO's layout: the image folders are beside the folder of the JSON files
    if root == root.parent:
        raise UserError(f'{root} is the root of the disk: name the folder of the data')
    found = Scan(root)
    _walk(root, (), found)
    if named_file:
        found.chosen = [named_file]
    else:
        own = [file for file in found.files if file.suffix.lower() == '.json' and is_own_json(file)]
        found.skipped[OWN] += own
        found.files = [file for file in found.files if file not in set(own)]
        found.chosen = found.files
    return found


def _walk(folder: Path, above: tuple[tuple[int, int], ...], found: Scan) -> None:
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        found.skipped[f'cannot be read: {error.strerror}'].append(folder)
        return
    if is_own_folder({entry.name for entry in entries}):
        if not above:
            raise UserError(f'{folder} was written by sparse_rcnn_mm, which does not read its own outputs: name '
                            'the folder of the data')
        found.skipped[OWN].append(folder)
        return
    here = os.stat(folder)
    chain = (*above, (here.st_dev, here.st_ino))
    subfolders = [_take(entry, chain, found) for entry in entries if not entry.name.startswith('.')]
    for subfolder in filter(None, subfolders):
        _walk(subfolder, chain, found)


def _take(entry: os.DirEntry[str], chain: tuple[tuple[int, int], ...], found: Scan) -> Path | None:
    """Record a file, or the reason to skip it. If the entry is a folder to list, return it.

    A link to a folder is skipped if that folder is listed anyway.
    """
    path = Path(entry.path)
    try:
        status = entry.stat()
    except OSError as error:
        missing = isinstance(error, FileNotFoundError)
        found.skipped['broken link' if missing else f'cannot be read: {error.strerror}'].append(path)
        return None
    if stat.S_ISREG(status.st_mode):
        found.files.append(path)
    elif not stat.S_ISDIR(status.st_mode):
        found.skipped['not a regular file'].append(path)
    elif (status.st_dev, status.st_ino) in chain:
        found.skipped['links to one of its own parent folders'].append(path)
    elif entry.is_symlink() and path.resolve().is_relative_to(found.root):
        found.skipped['links to a folder that is already read'].append(path)
    elif len(chain) > 100:
        found.skipped['more than 100 folders deep'].append(path)
    else:
        return path
    return None
