"""What a user names as input - images, folders, patterns, videos, a webcam - as one stream of frames."""
from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from sparse_rcnn_mm.datasets.image_files import SUFFIXES as IMAGE_SUFFIXES
from sparse_rcnn_mm.datasets.scan import names_of, scan
from sparse_rcnn_mm.errors import UserError
from sparse_rcnn_mm.terminal import say

from .names import VIDEO_SUFFIXES, picture_names

DEFAULT_FPS = 25.0


@dataclass(frozen=True)
class Source:
    """One file or camera.

    Attributes:
        path: as opened; a camera's is its number.
        name: where its picture goes, relative to the output folder.
        kind: 'image', 'video' or 'camera'.
        length: frames, 0 if unknown.
        fps: frames a second.
    """
    path: str
    name: str
    kind: str = 'image'
    length: int = 1
    fps: float = DEFAULT_FPS


@dataclass(frozen=True)
class Frame:
    """One image on its way to the detector.

    Attributes:
        source: where it is from.
        index: its number in the video or of the camera, from 0; None for an image file.
        image: (H, W, 3) uint8 RGB; None for an image file, which is read later.
        error: instead of an image, why there is none.
    """
    source: Source
    index: int | None = None
    image: np.ndarray | None = None
    error: str | None = None


def find_sources(inputs: Sequence[str], out_dir: str | os.PathLike | None = None) -> list[Source]:
    """Every file and camera that the inputs name, in their order, each once.

    Folders are searched with everything below them, except for `out_dir` and earlier results, which are no inputs. What
    else is passed over there is said.

    Raises:
        UserError: an input names nothing.
    """
    out = Path(out_dir).resolve() if out_dir is not None else None
    pairs: dict[str, tuple[str, str]] = {}
    for text in inputs:
        found = _expand(text, out)
        if not found:
            raise UserError(f'{text} names no image, folder with images, video or camera number')
        for path, name in found:
            pairs.setdefault(os.path.realpath(path), (path, name))
    pictures = picture_names(name for _, name in pairs.values())
    return [_source(path, picture) for (path, _), picture in zip(pairs.values(), pictures, strict=True)]


def _expand(text: str, out: Path | None) -> list[tuple[str, str]]:
    """(path, name) of everything that one input names."""
    path = Path(text).expanduser()
    if path.is_dir():
        return _in_folder(path, out)
    if path.is_file():
        return [(str(path), path.name)]
    if text.isdecimal():
        return [(text, f'camera{text}.mp4')]
    matches = sorted(glob.glob(str(path), recursive=True))
    return [pair for match in matches for pair in _expand(match, out) if os.path.isdir(match) or _is_media(Path(match))]


def _in_folder(folder: Path, out: Path | None) -> list[tuple[str, str]]:
    found = scan(folder)
    files = [file for file in found.files if not (out and file.resolve().is_relative_to(out))]
    others = [file for file in files if not _is_media(file)]
    lines = [f'not read: {names_of(others, found.root)} (neither images nor videos)'] if others else []
    if lines + found.skipped_lines:
        say(*lines, *found.skipped_lines)
    names = [os.path.relpath(file, found.root) for file in files if _is_media(file)]
    return [(str(folder / name), name) for name in names]


def _is_media(file: Path) -> bool:
    hidden = file.name.startswith('.')  # as macOS leaves them beside real images
    return not hidden and file.suffix.lower() in IMAGE_SUFFIXES | VIDEO_SUFFIXES and file.is_file()


def _source(path: str, name: str) -> Source:
    if path.isdecimal() and not Path(path).exists():
        return Source(path, name, 'camera', 0)
    if Path(path).suffix.lower() not in VIDEO_SUFFIXES:
        return Source(path, name)
    capture = cv2.VideoCapture(path)
    length, fps = int(capture.get(cv2.CAP_PROP_FRAME_COUNT)), capture.get(cv2.CAP_PROP_FPS)
    capture.release()
    return Source(path, name, 'video', max(length, 0), fps if fps > 0 else DEFAULT_FPS)


def frames_of(sources: Sequence[Source]) -> Iterator[Frame]:
    """The frames of all sources, one in memory at a time. What cannot be read becomes a frame with an `error`."""
    for source in sources:
        if source.kind == 'image':
            yield Frame(source)
        else:
            yield from _video_frames(source)


def _video_frames(source: Source) -> Iterator[Frame]:
    capture = cv2.VideoCapture(int(source.path) if source.kind == 'camera' else source.path)
    count = 0
    try:
        while True:
            found, image = capture.read()
            if not found:
                break
            yield Frame(source, count, image[..., ::-1])
            count += 1
    finally:
        capture.release()
    if not count:
        yield Frame(source, error=f'cannot read {source.kind} {source.path}: it is missing, corrupt or of a codec that '
                    'OpenCV lacks')
    elif source.length - count > source.fps:  # the stated length may be off by some frames
        yield Frame(source, error=f'video {source.path} broke off after {count} of {source.length} frames')
