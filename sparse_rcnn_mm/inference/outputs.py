"""The outputs of a run: records while it runs, pictures and videos, and files in other formats at the end."""
from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from PIL import Image

from sparse_rcnn_mm.errors import UserError
from sparse_rcnn_mm.own_outputs import mark
from sparse_rcnn_mm.terminal import say

from .detections import ImageDetections, ImageDetector
from .formats import FORMATS
from .records import PART, Record, RecordFile, is_complete, read_about, read_records
from .resuming import done_before
from .sources import Frame, RealPaths, Source, opencv

Shard = tuple[int, int]  # the number of this part of the inputs, from 1, and the number of parts


class PictureWriter:
    """Writes pictures and videos to a folder, named after their sources. A file with its final name is complete."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._video: Any = None
        self._video_path = folder

    def add(self, frame: Frame, picture: Image.Image) -> None:
        """Write a picture, or append it to the video of its source.

        Raises:
            UserError: it cannot be written, for example because the disk is full or the name is too long.
        """
        path = self._folder / frame.source.picture
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if frame.index is None:
                self._write(path, picture)
            else:
                self._add_to_video(frame, path, picture)
        except OSError as error:
            raise UserError(f'cannot write the picture {path}: {error.strerror or error}; run with --no-pictures, or '
                            'choose another --out-dir') from error

    @staticmethod
    def _write(path: Path, picture: Image.Image) -> None:
        if path.suffix.lower() == '.png':
            picture.save(_part(path), compress_level=1)  # the default takes as long as a small network
        else:
            picture.save(_part(path), quality=90)
        os.replace(_part(path), path)

    def _add_to_video(self, frame: Frame, path: Path, picture: Image.Image) -> None:
        if self._video is None or self._video_path != path:
            self.close()
            cv2 = opencv()
            fourcc = cv2.VideoWriter.fourcc(*'mp4v')
            self._video = cv2.VideoWriter(str(_part(path)), fourcc, frame.source.fps, picture.size)
            if not self._video.isOpened():
                raise UserError(f'OpenCV cannot write the video {path}: it lacks the codec, or the disk is full; '
                                'run with --no-pictures')
            self._video_path = path
        self._video.write(np.asarray(picture)[..., ::-1])
        if frame.last:
            self.close()

    def close(self) -> None:
        """Finish the current video, even if it was cut off."""
        if self._video is not None:
            self._video.release()
            self._video = None
            os.replace(_part(self._video_path), self._video_path)


def _part(path: Path) -> Path:
    """Return the path of a file while it is incomplete: of the same suffix, and short even if the name is long."""
    return path.with_name(f'{PART}{hashlib.sha256(os.fsencode(path.name)).hexdigest()[:16]}{path.suffix}')


def _spare_inputs(folder: Path, sources: Sequence[Source]) -> None:
    """Raise a `UserError` if a picture would be written over one of the sources."""
    paths = RealPaths()
    inputs = {paths.of(source.path): source.path for source in sources}
    for source in sources:
        if input_file := inputs.get(paths.of(os.path.join(folder, source.picture))):
            raise UserError(f'the picture of {source.path} would be written over {input_file}: choose another '
                            '--out-dir, or run with --no-pictures')


class Outputs:
    """Everything that a run writes. Use it as a context manager, so that files are complete even after an interrupt.

    Args:
        folder: the output folder.
        detector: the detector, whose classes are named in the files.
        sources: the part of the inputs that this run processes.
        about: the inputs and settings of the run. Runs are joined or resumed only if these are equal.
        pictures: whether to draw pictures.
        formats: keys of `FORMATS`.
        resume: continue with the results that an earlier run wrote to the folder.
        shard: which part of the inputs this is. The run that finishes last joins the files of all parts.

    Attributes:
        done: names of the sources that an earlier run processed.
    """

    def __init__(self, folder: Path, detector: ImageDetector, sources: Sequence[Source], about: Mapping[str, Any],
                 pictures: bool, formats: Sequence[str] = ('coco', 'csv'), resume: bool = False,
                 shard: Shard = (1, 1)) -> None:
        self.folder, self.detector, self.about, self.formats, self.shard = folder, detector, about, formats, shard
        if pictures:
            _spare_inputs(folder, sources)
        try:
            mark(folder)
        except OSError as error:
            raise UserError(f'cannot write to {folder}: {error.strerror or error}') from error
        self.pictures = PictureWriter(folder) if pictures else None
        path = self._records_path(shard[0])
        self.done = done_before(path, about, sources, self._is_written) if resume else set()
        self.records = RecordFile(path, about, self.done)
        self.interrupted = False  # by the user; results so far are still written

    def _records_path(self, number: int) -> Path:
        return self.folder / ('detections.jsonl' if self.shard[1] == 1 else
                              f'detections-{number}-of-{self.shard[1]}.jsonl')

    def _is_written(self, source: Source) -> bool:
        return self.pictures is None or (self.folder / source.picture).is_file()

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
        if len(paths) == 1 or (all(map(is_complete, paths)) and self._are_of_one_run(paths)):
            for name in self.formats:
                ending, write = FORMATS[name]
                path = self.folder / f'detections{ending}'
                try:
                    write(path, partial(read_records, paths, len(self.detector.classes)), self.detector.classes,
                          self.detector.category_ids)
                except OSError as error:
                    raise UserError(f'cannot write {path}: {error.strerror or error}; the detections are in '
                                    f'{paths[0]}: run it again with --resume') from error

    def _are_of_one_run(self, paths: Sequence[Path]) -> bool:
        others = [path.name for path in paths if read_about(path) != self.about]
        if others:
            say(f'{", ".join(others)} in {self.folder}: of a run on other inputs or with other settings, so the parts '
                'are not joined; run those again')
        return not others
