"""Names of pictures: by the path below the common folder, so that images of one name in two folders stay two."""
from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import PurePath

VIDEO_SUFFIXES = {'.mp4', '.avi', '.mov', '.mkv', '.webm', '.m4v', '.mpg', '.mpeg', '.wmv', '.flv', '.ts', '.gifv'}
_WRITTEN = ('.jpg', '.jpeg', '.png', '.mp4')  # the types that pictures and videos are written as


def below_common_folder(paths: Sequence[str]) -> list[str]:
    """Each path as seen from the lowest folder that they are all in, with `/`."""
    whole = [PurePath(os.path.abspath(path)) for path in dict.fromkeys(paths)]
    try:
        common = os.path.commonpath([path.parent for path in whole]) if whole else ''
        names = [path.relative_to(common).as_posix() for path in whole]
    except ValueError:  # on several drives of Windows
        names = ['/'.join([path.drive.strip('\\/:'), *path.parts[1:]]) for path in whole]
    by_path = dict(zip(dict.fromkeys(paths), names, strict=True))
    return [by_path[path] for path in paths]


def picture_names(names: Iterable[str]) -> list[str]:
    """A name for the picture or video of each: of a type that is written, and each once.

    Two videos clip.avi and clip.mp4 stay two. Where a picture would have the name of another, that of the image called
    so is left alone. Names that differ in capitals only are one on some systems.
    """
    wanted = [(name, _picture_name(name)) for name in names]
    taken: set[str] = set()
    kept = [_unused(picture, taken) if picture == name else '' for name, picture in wanted]
    return [picture or _unused(new, taken) for picture, (_, new) in zip(kept, wanted, strict=True)]


def _picture_name(name: str) -> str:
    stem, suffix = os.path.splitext(name)
    if suffix.lower() in VIDEO_SUFFIXES:
        return f'{stem}.mp4' if suffix.lower() == '.mp4' else f'{name}.mp4'
    return name if suffix.lower() in _WRITTEN else f'{name}.jpg'


def _unused(name: str, taken: set[str]) -> str:
    """`name`, numbered if there is one like it already."""
    stem, suffix = os.path.splitext(name)
    number = 2
    while name.casefold() in taken:
        name = f'{stem}_{number}{suffix}'
        number += 1
    taken.add(name.casefold())
    return name
