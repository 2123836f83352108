"""The outputs of a run: records while it runs, pictures and videos, and files in other formats at the end."""
from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from types import TracebackType

import cv2
import numpy as np
from PIL import Image

from sparse_rcnn_mm.errors import UserError
from sparse_rcnn_mm.own_outputs import mark

from .detector import Detector, ImageDetections
from .formats import FORMATS
from .records import Record, RecordFile, is_complete, read_records
from .sources import Frame

Shard = tuple[int, int]  # the number of a part of the inputs, from 1, and how many parts there are


class PictureWriter:
    """Writes pictures and videos to a folder, under the names of their sources."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._video: cv2.VideoWriter | None = None
        self._video_name: str | None = None

    def add(self, frame: Frame, picture: Image.Image) -> None:
        """Write a picture, or append it to the video of its source."""
        path = self._folder / frame.source.name
        path.parent.mkdir(parents=True, exist_ok=True)
        if frame.index is not None:
            self._add_to_video(frame, path, picture)
        elif path.suffix.lower() == '.png':
            picture.save(path, compress_level=1)  # the default is as slow as a small network
        else:
            picture.save(path, quality=90)

    def _add_to_video(self, frame: Frame, path: Path, picture: Image.Image) -> None:
        if self._video is None or self._video_name != frame.source.name:
            self.close()
            fourcc = cv2.VideoWriter.fourcc(*'mp4v')
            self._video = cv2.VideoWriter(str(path), fourcc, frame.source.fps, picture.size)
            if not self._video.isOpened():
                raise UserError(f'OpenCV cannot write the video {path}: it lacks the codec, or the disk is full; '
                                'run with --no-pictures')
            self._video_name = frame.source.name
        self._video.write(np.asarray(picture)[..., ::-1])

    def close(self) -> None:
        """Finish the current video."""
        if self._video is not None:
            self._video.release()
            self._video = None


class Outputs:
    """Everything that a run writes. Use it as a context manager, so that files are complete even after an interrupt.

    Args:
        folder: the output folder.
        detector: its class names and category ids go into the files.
        pictures: whether to draw pictures.
        formats: keys of `FORMATS`.
        resume: continue an earlier run in this folder.
        shard: the part of the inputs that this run processes. The run that finishes last joins the files of all parts.
    """

    def __init__(self, folder: Path, detector: Detector, pictures: bool, formats: Sequence[str] = ('coco', 'csv'),
                 resume: bool = False, shard: Shard = (1, 1)) -> None:
        self.folder, self.detector, self.formats, self.shard = folder, detector, formats, shard
        try:
            mark(folder)
        except OSError as error:
            raise UserError(f'cannot write to {folder}: {error.strerror or error}') from error
        self.records = RecordFile(self._records_path(shard[0]), resume)
        self.pictures = PictureWriter(folder) if pictures else None
        self.interrupted = False  # by the user; the results so far are still written

    def _records_path(self, number: int) -> Path:
        return self.folder / ('detections.jsonl' if self.shard[1] == 1 else
                              f'detections-{number}-of-{self.shard[1]}.jsonl')

    def is_done(self, frame: Frame) -> bool:
        """Whether an earlier run already wrote this frame."""
        return (frame.source.path, frame.index) in self.records.done

    def add(self, frame: Frame, size: tuple[int, int], found: ImageDetections) -> None:
        """Write the detections in an image of `size` (height, width)."""
        self.records.add(Record.of(frame, size, found))

    def __enter__(self) -> Outputs:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 traceback: TracebackType | None) -> None:
        if self.pictures:
            self.pictures.close()
        if kind is None and not self.interrupted:
            self.records.complete()
        self.records.__exit__(kind, error, traceback)
        paths = [self._records_path(number) for number in range(1, self.shard[1] + 1)]
        if len(paths) == 1 or all(map(is_complete, paths)):
            for name in self.formats:
                ending, write = FORMATS[name]
                write(self.folder / f'detections{ending}', partial(read_records, paths), self.detector.classes,
                      self.detector.category_ids)
