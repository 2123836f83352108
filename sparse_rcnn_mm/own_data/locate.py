"""Finds the image that a name in an annotation file refers to.

First the path is tried as written. If it is a path of another machine, the end of the path is compared. If several
images fit, the folder structure decides. A remaining tie is an error that names both images.
"""
from __future__ import annotations

import os
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from urllib.parse import unquote, urlsplit

from sparse_rcnn_mm.datasets.image_files import SUFFIXES, is_image
from sparse_rcnn_mm.datasets.scan import Scan
from sparse_rcnn_mm.errors import UserError

from .raw_data import counted, relative, split_of

_IMAGE_FOLDERS = {'images', 'image', 'imgs', 'img', 'jpegimages', 'pictures', 'photos', 'rgb'}


def parts_of(name: str) -> list[str]:
    """Split a Windows or POSIX path into its parts, without drive, `.` and `..`."""
    return [part for part in re.split(r'[/\\]', name) if part not in ('', '.', '..') and not part.endswith(':')]


def without_suffix(name: str) -> str:
    """Remove the suffix of an image or XML file; other dots in the name stay."""
    stem, suffix = os.path.splitext(name)
    return stem if suffix.lower() in SUFFIXES | {'.xml'} else name


class Images:
    """Finds images of a scanned folder by name. `notes` lists the decisions it made."""

    def __init__(self, scan: Scan) -> None:
        self.root = scan.root
        named = scan.images + [path for path in scan.files if not path.suffix]  # some have no suffix
        self._known = {str(path) for path in named}
        self._by_name: dict[str, list[Path]] = defaultdict(list)
        self._by_stem: dict[str, list[Path]] = defaultdict(list)
        for path in named:
            self._by_name[lookup_key(path.name)].append(path)
        for path in scan.images:
            self._by_stem[lookup_key(path.stem)].append(path)
        self._ends: list[tuple[str, Path]] = []
        self._beside: Counter[tuple[Path, Path]] = Counter()
        self._elsewhere: list[tuple[Path, Path]] = []

    def find_all(self, names: Iterable[str], near: Path, split: str, stems: bool = False) -> list[Path | None]:
        """Return `find`, or `of_stem`, of the names in a file.

        If there is no image for any of them, images in the folders of other splits are considered, too.
        """
        find, names = self.of_stem if stems else self.find, list(names)
        found = [find(name, near, split) for name in names]
        if not any(found):
            found = [find(name, near, '') for name in names]
            self._elsewhere += [(near, path) for path in found if path][:1]
        return found

    def find(self, name: str, near: Path, split: str) -> Path | None:
        """Return the image that a name refers to, or None.

        Args:
            name: an absolute or relative path, of this machine or of another.
            near: the annotation file with the name.
            split: the split of that file. Images in the folder of another split are not considered.

        Raises:
            UserError: several images fit equally well.
        """
        if not parts_of(name) or '\0' in name:
            return None
        for base in (near.parent, self.root):
            place = os.path.normpath(base / name)
            if place in self._known or (os.path.isabs(name) and is_image(Path(place)) and os.path.isfile(place)):
                return Path(place)
        wanted = parts_of(name)
        candidates = self._by_name[lookup_key(wanted[-1])]
        exact = [path for path in candidates if path.name == wanted[-1]]
        found = self._best(exact or candidates, wanted, near, split, name)
        if found is None and (plain := _unquoted(name)) != name:
            return self.find(plain, near, split)
        if found and _common_end(found, wanted) < len(wanted):
            self._ends.append((name, found))
        return found

    def of_stem(self, stem: str, near: Path, split: str) -> Path | None:
        """Like `find`, for a name without its suffix."""
        wanted = parts_of(stem)
        candidates = self._by_stem[lookup_key(wanted[-1])] if wanted else []
        return self._best(candidates, wanted, near, split, stem)

    def _best(self, candidates: list[Path], wanted: list[str], near: Path, split: str, name: str) -> Path | None:
        longest = max((_common_end(path, wanted) for path in candidates), default=0)
        best = [path for path in candidates if _common_end(path, wanted) == longest]
        if split and not split_of(Path(*wanted[-longest:-1], 'image')):  # the name itself may say another split
            best = [path for path in best if self._split(path) in ('', split)]
        for key in _PREFERENCES:
            most = max((key(path, near) for path in best), default=0)
            best = [path for path in best if key(path, near) == most]
        if len({path.resolve() for path in best}) > 1:
            others = sorted(best, key=lambda path: path.parent.name.lower() not in _IMAGE_FOLDERS)
            usual = [path for path in others if path.parent.name.lower() in _IMAGE_FOLDERS]
            if len(usual) != 1 or len({path.parent for path in best}) < len(best):
                raise UserError(f'{relative(near, self.root)} in {self.root} names {name}, which could be '
                                f'{" or ".join(relative(path, self.root) for path in best[:3])}: remove one, or move '
                                'it out of the folder')
            self._beside.update((usual[0].parent, path.parent) for path in others[1:])
            return usual[0]
        return best[0] if best else None

    def _split(self, path: Path) -> str:
        return split_of(Path(relative(path, self.root)).parent)

    def without_losers(self, file_name: str) -> str:
        """Replace a file of a folder that lost a tie by its namesake in the winning folder, so that no mask is used."""
        folder = (self.root / file_name).parent
        winner = next((winner for winner, loser in self._beside if loser == folder), folder)
        return file_name if winner == folder else relative(winner / Path(file_name).name, self.root)

    @property
    def notes(self) -> list[str]:
        """What was decided where several images fit, one sentence each."""
        said = [f'using the images in {relative(winner, self.root)}, not those with the same names in '
                f'{relative(loser, self.root)}' for winner, loser in self._beside]
        said += [f'the images of {relative(near, self.root)} are in the folder of another split: '
                 f'{relative(path, self.root)}, ...' for near, path in self._elsewhere]
        if self._ends:
            name, path = self._ends[0]
            said.append(f'{counted(len(self._ends), "image")} found by the end of the path, the first: {name} is '
                        f'{relative(path, self.root)} here')
        return said


def lookup_key(name: str) -> str:
    """A name to be looked up, in lower case, with accents in one form: macOS writes them as characters of their own."""
    return unicodedata.normalize('NFC', name).lower()


def _unquoted(name: str) -> str:
    """The path in an address, and what stands for %20 and the like."""
    return unquote(urlsplit(name).path if re.match(r'https?://', name) else name)


def _common_end(path: Path, wanted: list[str]) -> int:
    """How many path parts are equal, counted from the end. The last one is known to be equal."""
    count = 1
    for one, other in zip(path.parts[-2::-1], wanted[-2::-1], strict=False):
        if one.lower() != other.lower():
            break
        count += 1
    return count


def _shared(path: Path, near: Path) -> int:
    """How many parent folders both paths have in common, counted from the root."""
    return len(os.path.commonpath([path.parent, near.parent]))


def _mirrored(path: Path, near: Path) -> int:
    """How many nearest parent folders have equal names: 1 for JPEGImages/site/1.jpg and Annotations/site/1.xml."""
    return _common_end(path.parent / 'x', [*near.parent.parts, 'x'])


_PREFERENCES: list[Callable[[Path, Path], int]] = [_shared, _mirrored]
