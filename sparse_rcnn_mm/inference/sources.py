"""Turns the inputs of a user (images, folders, patterns, videos, a webcam) into one stream of frames."""
from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sparse_rcnn_mm.datasets.image_files import SUFFIXES as IMAGE_SUFFIXES
from sparse_rcnn_mm.datasets.scan import names_of, scan
from sparse_rcnn_mm.errors import UserError
from sparse_rcnn_mm.terminal import say

from .contents import stamp
from .names import VIDEO_SUFFIXES, below_common_folder, picture_names

DEFAULT_FPS = 25.0
_SUFFIXES = IMAGE_SUFFIXES | VIDEO_SUFFIXES


@dataclass(frozen=True, slots=True)
class Source:
    """One file or camera.

    Attributes:
        path: the path to open. For a camera, its number.
        name: the path relative to the input folder, or to the common folder of several inputs. Also the name of its
            detections.
        picture: the path of its picture, relative to the output folder.
        kind: 'image', 'video' or 'camera'.
        length: the number of frames, 0 if unknown.
        fps: frames per second.
    """
    path: str
    name: str
    picture: str
    kind: str = 'image'
    length: int = 1
    fps: float = DEFAULT_FPS


@dataclass(frozen=True, slots=True)
class Frame:
    """One image on its way to the detector.

    Attributes:
        source: the file or camera.
        index: its number in the video or from the camera, from 0; None for an image file.
        image: (H, W, 3) uint8 RGB; None for an image file, which is read later.
        error: the reason why there is no image.
        content: stamp of the file.
        last: whether the video ends with this frame.
    """
    source: Source
    index: int | None = None
    image: np.ndarray | None = None
    error: str | None = None
    content: str = ''
    last: bool = False


def opencv() -> Any:
    """The module cv2, which only videos and cameras need.

    Raises:
        UserError: it is not installed.
    """
    try:
        import cv2
    except ImportError as error:
        raise UserError('videos and cameras need OpenCV: run `pip install opencv-python-headless`') from error
    return cv2


def find_sources(inputs: Sequence[str], out_dir: str | os.PathLike | None = None) -> list[Source]:
    """Find all files and cameras that the inputs name, in order and without duplicates.

    Folders are searched recursively, except for `out_dir` and results of earlier runs. Other skipped files are
    reported.

    Raises:
        UserError: an input matches nothing.
    """
    out = Path(out_dir).resolve() if out_dir is not None else None
    paths = RealPaths()
    found: dict[str, tuple[str, str]] = {}
    for text in inputs:
        pairs = _expand(text, out, paths)
        if not pairs:
            raise UserError(f'{text} names no image, folder with images, video or camera number')
        for path, base in pairs:
            found.setdefault(paths.of(path), (path, base))
    names = _names(list(found.values()))
    return [_source(path, name, picture)
            for (path, _), name, picture in zip(found.values(), names, picture_names(names), strict=True)]


def _names(pairs: Sequence[tuple[str, str]]) -> list[str]:
    """The name of each pair of a path and the folder it was found from, empty for a camera."""
    bases = {os.path.abspath(base) for _, base in pairs if base}
    if len(bases) > 1:
        below = iter(below_common_folder([path for path, base in pairs if base]))
        return [next(below) if base else f'camera{path}.mp4' for path, base in pairs]
    return [path.removeprefix(os.path.join(base, '')).replace(os.sep, '/') if base else f'camera{path}.mp4'
            for path, base in pairs]


class RealPaths:
    """Resolves the links in paths, with a single lookup per folder."""

    def __init__(self) -> None:
        self._real: dict[str, str] = {}

    def of(self, path: str) -> str:
        """The path without links in it."""
        if os.path.islink(path):
            return os.path.realpath(path)
        folder, name = os.path.split(path)
        if folder not in self._real:
            self._real[folder] = os.path.realpath(folder)
        return os.path.join(self._real[folder], name)


def _expand(text: str, out: Path | None, paths: RealPaths) -> list[tuple[str, str]]:
    """List everything that one input matches, as (path, base folder of its name). A camera has no folder."""
    try:
        path = Path(text).expanduser()
    except RuntimeError:  # there is no user of this name, but perhaps a file
        path = Path(text)
    if path.is_dir():
        return _in_folder(path, out, paths)
    if path.is_file():
        return [(str(path), str(path.parent))]
    if text.isdecimal():
        return [(text, '')]
    matches = sorted(glob.glob(str(path), recursive=True))
    if others := [match for match in matches if not os.path.isdir(match) and not os.path.isfile(match)]:
        more = ', ...' if len(others) > 3 else ''
        say(f'not read: {", ".join(others[:3])}{more} (broken links, or no regular files)')
    return [pair for match in matches if os.path.isdir(match) or (
        os.path.isfile(match) and _is_media(os.path.basename(match))) for pair in _expand(match, out, paths)]


def _in_folder(folder: Path, out: Path | None, paths: RealPaths) -> list[tuple[str, str]]:
    found = scan(folder)
    inside = os.path.join(out, '') if out else None
    files = [file for file in found.files if not (inside and paths.of(str(file)).startswith(inside))]
    media = [file for file in files if _is_media(file.name)]
    if len(media) < len(files):
        others = [file for file in files if not _is_media(file.name)]
        say(f'not read: {names_of(others, found.root)} (neither images nor videos)')
    if found.skipped_lines:
        say(*found.skipped_lines)
    start = len(str(found.root)) + 1
    return [(os.path.join(folder, str(file)[start:]), str(folder)) for file in media]


def _is_media(name: str) -> bool:
    hidden = name.startswith('.')  # macOS puts hidden files next to images
    return not hidden and os.path.splitext(name)[1].lower() in _SUFFIXES


def _source(path: str, name: str, picture: str) -> Source:
    if path.isdecimal() and not Path(path).exists():
        return Source(path, name, picture, 'camera', 0)
    if os.path.splitext(path)[1].lower() not in VIDEO_SUFFIXES:
        return Source(path, name, picture)
    cv2 = opencv()
    capture = cv2.VideoCapture(path)
    length, fps = int(capture.get(cv2.CAP_PROP_FRAME_COUNT)), capture.get(cv2.CAP_PROP_FPS)
    capture.release()
    return Source(path, name, picture, 'video', max(length, 0), fps if fps > 0 else DEFAULT_FPS)


def frames_of(sources: Sequence[Source]) -> Iterator[Frame]:
    """Yield the frames of all sources, two in memory at a time. Unreadable ones become a frame with an `error`."""
    for source in sources:
        if source.kind == 'image':
            yield Frame(source)
        else:
            yield from _video_frames(source)


def _video_frames(source: Source) -> Iterator[Frame]:
    capture = opencv().VideoCapture(int(source.path) if source.kind == 'camera' else source.path)
    content = stamp(source.path) if source.kind == 'video' else ''
    count = 0
    try:
        found, image = capture.read()
        while found:
            found, following = capture.read()
            broken = not found and source.length - count - 1 > source.fps  # the stated length may be off by some frames
            yield Frame(source, count, image[..., ::-1], content=content, last=not found and not broken)
            count += 1
            image = following
    finally:
        capture.release()
    if not count:
        yield Frame(source, error=f'cannot read {source.kind} {source.path}: it is missing, corrupt, or needs a codec '
                    'that OpenCV lacks')
    elif broken:
        yield Frame(source, error=f'video {source.path} broke off after {count} of {source.length} frames')
