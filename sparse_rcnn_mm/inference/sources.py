"""Turns the inputs of a user (images, folders, patterns, videos, a webcam) into one stream of frames."""
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

VIDEO_SUFFIXES = {'.mp4', '.avi', '.mov', '.mkv', '.webm', '.m4v', '.mpg', '.mpeg', '.wmv', '.flv', '.ts', '.gifv'}
DEFAULT_FPS = 25.0


@dataclass(frozen=True)
class Source:
    """One file or camera.

    Attributes:
        path: the file, or the number of a camera.
        name: the path of its picture, relative to the output folder.
        kind: 'image', 'video' or 'camera'.
        length: the number of frames, 0 if unknown.
        fps: frames per second.
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
        source: the file or camera.
        index: its number in the video or from the camera, from 0; None for an image file.
        image: (H, W, 3) uint8 RGB; None for an image file, which is read later.
        error: the reason why there is no image.
    """
    source: Source
    index: int | None = None
    image: np.ndarray | None = None
    error: str | None = None


def find_sources(inputs: Sequence[str], out_dir: str | os.PathLike | None = None) -> list[Source]:
    """Find all files and cameras that the inputs name, in order and without duplicates.

    Folders are searched recursively, except for `out_dir` and results of earlier runs. Other skipped files are
    reported.

    Raises:
        UserError: an input matches nothing.
    """
    out = Path(out_dir).resolve() if out_dir is not None else None
    sources: dict[str, Source] = {}
    names: set[str] = set()
    for text in inputs:
        found = _expand(text, out)
        if not found:
            raise UserError(f'{text} names no image, folder with images, video or camera number')
        for path, name in found:
            if (real := os.path.realpath(path)) not in sources:
                sources[real] = _source(path, _unused(_picture_name(name), names))
    return list(sources.values())


def _expand(text: str, out: Path | None) -> list[tuple[str, str]]:
    """The (path, name) pairs that one input stands for: a file, a folder, a pattern or a camera."""
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
    hidden = file.name.startswith('.')  # macOS puts hidden files beside images
    return not hidden and file.suffix.lower() in IMAGE_SUFFIXES | VIDEO_SUFFIXES and file.is_file()


def _picture_name(name: str) -> str:
    """The name of a picture. The old suffix is kept if needed, so that clip.avi and clip.mp4 do not collide."""
    stem, suffix = os.path.splitext(name)
    if suffix.lower() in VIDEO_SUFFIXES:
        return f'{stem}.mp4' if suffix.lower() == '.mp4' else f'{name}.mp4'
    return name if suffix.lower() in ('.jpg', '.jpeg', '.png', '.mp4') else f'{name}.jpg'


def _unused(name: str, names: set[str]) -> str:
    """`name`, with a number if it is already in use."""
    stem, suffix = os.path.splitext(name)
    number = 2
    while name in names:
        name = f'{stem}_{number}{suffix}'
        number += 1
    names.add(name)
    return name


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
    """Yield the frames of all sources, one in memory at a time. Unreadable ones become a frame with an `error`."""
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
        yield Frame(source, error=f'cannot read {source.kind} {source.path}: it is missing, corrupt, or needs a codec '
                    'that OpenCV lacks')
    elif source.length - count > source.fps:  # the stated length may be slightly wrong
        yield Frame(source, error=f'video {source.path} ended early, after {count} of {source.length} frames')
