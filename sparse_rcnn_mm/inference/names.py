"""Names of pictures, from paths relative to the common folder: images with one name in two folders stay separate."""
from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import PurePath

VIDEO_SUFFIXES = {'.mp4', '.avi', '.mov', '.mkv', '.webm', '.m4v', '.mpg', '.mpeg', '.wmv', '.flv', '.ts', '.gifv'}
_WRITTEN = ('.jpg', '.jpeg', '.png', '.mp4')  # the file types of written pictures and videos


def below_common_folder(paths: Sequence[str]) -> list[str]:
    """Return each path relative to the deepest common folder, with `/` as the separator."""
    whole = [PurePath(os.path.abspath(path)) for path in dict.fromkeys(paths)]
    try:
        common = os.path.commonpath([path.parent for path in whole]) if whole else ''
        names = [path.relative_to(common).as_posix() for path in whole]
    except ValueError:  # the paths are on different Windows drives
        names = ['/'.join([path.drive.strip('\\/:'), *path.parts[1:]]) for path in whole]
    by_path = dict(zip(dict.fromkeys(paths), names, strict=True))
    return [by_path[path] for path in paths]


def picture_names(names: Iterable[str]) -> list[str]:
    """Return a unique name for the picture or video of each source, with a file type that can be written.

    Two videos clip.avi and clip.mp4 get two names. If two names collide, the image that has the name originally keeps
    it. Names that differ only in case count as equal, because on some systems they are.
    """
    wanted = [(name, _picture_name(name)) for name in names]
    taken: set[str] = set()
    kept = [unused_name(picture, taken) if picture == name else '' for name, picture in wanted]
    return [picture or unused_name(new, taken) for picture, (_, new) in zip(kept, wanted, strict=True)]


def _picture_name(name: str) -> str:
    stem, suffix = os.path.splitext(name)
    if suffix.lower() in VIDEO_SUFFIXES:
        return f'{stem}.mp4' if suffix.lower() == '.mp4' else f'{name}.mp4'
    return name if suffix.lower() in _WRITTEN else f'{name}.jpg'


def unused_name(name: str, taken: set[str]) -> str:
    """Return `name`, with a number added if it is in `taken`, to which it is then added, in one case."""
    stem, suffix = os.path.splitext(name)
    number = 2
    while name.casefold() in taken:
        name = f'{stem}_{number}{suffix}'
        number += 1
    taken.add(name.casefold())
    return name
