"""The detections of a run, one line per image, so that an interrupted run can be resumed."""
from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType

from sparse_rcnn_mm.errors import UserError

from .detector import ImageDetections
from .sources import Frame

_COMPLETE = '"complete"\n'


@dataclass
class Record:
    """The detections of one image.

    Attributes:
        path, frame: the file, and the number of the frame in a video or from a camera, from 0.
        name: the name of the picture, relative to the output folder.
        boxes: x1, y1, x2, y2 in pixels, score and label of each detection.
    """
    path: str
    frame: int | None
    name: str
    width: int
    height: int
    boxes: list[list[float]] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)

    @classmethod
    def of(cls, frame: Frame, size: tuple[int, int], found: ImageDetections) -> Record:
        """Make a record of the detections in an image of `size` (height, width), rounded as in the files."""
        return cls(frame.source.path, frame.index, frame.source.name, size[1], size[0],
                   [[round(value, 2) for value in box] for box in found.boxes.tolist()],
                   [round(score, 5) for score in found.scores.tolist()], found.labels.tolist())


class RecordFile:
    """A file of records that is written line by line. Use it as a context manager.

    Args:
        path: the file.
        resume: keep the existing records. An incomplete last line is dropped.

    Raises:
        UserError: the file cannot be written, or is not a file of records.
    """

    def __init__(self, path: Path, resume: bool = False) -> None:
        self.path = path
        self.done: set[tuple[str, int | None]] = set()
        try:
            if resume and path.exists():
                self._keep_whole_lines()
                self.done = {(record.path, record.frame) for record in read_records([path])}
            self._file = path.open('a' if resume else 'w', encoding='utf-8', errors='surrogateescape')
        except OSError as error:
            raise UserError(f'cannot write to {path}: {error.strerror or error}') from error

    def _keep_whole_lines(self) -> None:
        with self.path.open('rb+') as file:
            whole = sum(len(line) for line in file if line.endswith(b'\n') and line != _COMPLETE.encode())
            file.truncate(whole)

    def add(self, record: Record) -> None:
        """Append one record."""
        self._file.write(json.dumps(asdict(record)) + '\n')
        self._file.flush()

    def complete(self) -> None:
        """Mark the file as complete."""
        self._file.write(_COMPLETE)
        self._file.flush()

    def __enter__(self) -> RecordFile:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 traceback: TracebackType | None) -> None:
        self._file.close()


def is_complete(path: Path) -> bool:
    """Whether a file of records is marked as complete."""
    if not path.is_file():
        return False
    with path.open('rb') as file:
        file.seek(max(path.stat().st_size - len(_COMPLETE), 0))
        return file.read() == _COMPLETE.encode()


def read_records(paths: Iterable[Path]) -> Iterator[Record]:
    """Yield the records of files, with one record in memory at a time.

    Raises:
        UserError: a line is not a record.
    """
    for path in paths:
        with path.open(encoding='utf-8', errors='surrogateescape') as lines:
            for number, line in enumerate(lines, start=1):
                if line == _COMPLETE:
                    continue
                try:
                    yield Record(**json.loads(line))
                except (ValueError, TypeError) as error:
                    raise UserError(f'line {number} of {path} is not a record of detections: delete the file, or run '
                                    'without --resume') from error
