"""The detections of a run, one line per image, so that an interrupted run can be resumed."""
from __future__ import annotations

import json
import math
import os
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePath
from types import TracebackType
from typing import Any

import numpy as np

from sparse_rcnn_mm.errors import UserError

from .detections import ImageDetections
from .sources import Frame

_COMPLETE = '"complete"\n'
_HEAD = '{"run": '
PART = '.part-'  # prefix of the name of an incomplete file


@dataclass
class Record:
    """The detections of one image.

    Attributes:
        path, frame: the file, and the number of the frame in a video or of a camera, from 0.
        name: the file's path relative to the input folder.
        boxes: x1, y1, x2, y2 in pixels, and the score and label of each.
        masks: compressed run lengths (COCO's `counts`) of each; empty if the model predicts no masks.
        content: the `stamp` of the file.
        last: whether the video ends with this frame.
    """
    path: str
    frame: int | None
    name: str
    width: int
    height: int
    boxes: list[list[float]] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    masks: list[str] = field(default_factory=list)
    content: str = ''
    last: bool = False

    @classmethod
    def of(cls, frame: Frame, size: tuple[int, int], found: ImageDetections) -> Record:
        """Make a record of the detections in an image of `size` (height, width), rounded as in the files."""
        return cls(frame.source.path, frame.index, frame.source.name, size[1], size[0],
                   [[round(value, 2) for value in box] for box in found.boxes.tolist()],
                   [round(score, 5) for score in found.scores.tolist()], found.labels.tolist(),
                   _run_lengths(found.masks),
                   frame.content, frame.last)


def _run_lengths(masks: np.ndarray | None) -> list[str]:
    if masks is None:
        return []
    from sparse_rcnn_mm.datasets.masks import run_lengths  # imports PyTorch
    return [run_lengths(mask)['counts'] for mask in masks]


class RecordFile:
    """A file of records that is written line by line. Use it as a context manager.

    Args:
        path: the file.
        about: the inputs and settings of the run, which become the first line.
        done: the names whose records are kept from an existing file. All other records are dropped.

    Raises:
        UserError: the file cannot be written, or the existing file is not a file of records.
    """

    def __init__(self, path: Path, about: Mapping[str, Any], done: Container[str] = ()) -> None:
        self.path = path
        part = path.with_name(PART + path.name)
        try:
            with part.open('w', encoding='utf-8', errors='surrogateescape') as file:
                file.write(f'{_HEAD}{json.dumps(about)}}}\n')
                if done:
                    file.writelines(line for line, record in _lines(path) if record.name in done)
            os.replace(part, path)
            self._file = path.open('a', encoding='utf-8', errors='surrogateescape')
        except OSError as error:
            raise UserError(f'cannot write to {path}: {error.strerror or error}') from error

    def add(self, record: Record) -> None:
        """Append one record."""
        self._append(json.dumps(asdict(record)) + '\n')

    def complete(self) -> None:
        """Mark the file as complete."""
        self._append(_COMPLETE)

    def _append(self, text: str) -> None:
        try:
            self._file.write(text)
            self._file.flush()
        except OSError as error:
            raise UserError(f'cannot write to {self.path}: {error.strerror or error}; make room, and run it again with '
                            '--resume') from error

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


def read_about(path: Path) -> dict[str, Any] | None:
    """Read the inputs and settings of the run that wrote a file of records. None if not even those were written.

    Raises:
        UserError: it is not a file of records.
    """
    if not path.is_file():
        return None
    with path.open(encoding='utf-8', errors='surrogateescape') as lines:
        first = lines.readline()
    if not first.endswith('\n'):
        return None
    try:
        about = json.loads(first)['run']
        if not isinstance(about, dict):
            raise TypeError
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise UserError(f'{path} does not begin as a file of detections does: delete it, or run without '
                        '--resume') from error
    return about


def read_records(paths: Iterable[Path], classes: int | None = None) -> Iterator[Record]:
    """Yield the records of files, with one record in memory at a time.

    Args:
        classes: the number of classes, if the labels are used.

    Raises:
        UserError: a line is not a record.
    """
    for path in paths:
        yield from (record for _, record in _lines(path, classes))


def _lines(path: Path, classes: int | None = None) -> Iterator[tuple[str, Record]]:
    """Yield each record with its line. A last line that was cut off is skipped."""
    with path.open(encoding='utf-8', errors='surrogateescape') as lines:
        for number, line in enumerate(lines, start=1):
            if line == _COMPLETE or (number == 1 and line.startswith(_HEAD)) or not line.endswith('\n'):
                continue
            try:
                record = Record(**json.loads(line))
                _check(record, classes)
            except (ValueError, TypeError, OverflowError, RecursionError) as error:
                raise UserError(f'line {number} of {path} is not a record of detections: delete the file, or run '
                                'without --resume') from error
            yield line, record


def _check(record: Record, classes: int | None) -> None:
    """Raise ValueError if a record from a file, which may have been made by anybody, cannot be one of a run."""
    name = PurePath(record.name)
    if not name.parts or name.anchor or '..' in name.parts or '\0' in record.name:
        raise ValueError('its name is not below the output folder')
    texts, counts = (record.path, record.content), (record.width, record.height, *record.labels)
    if record.frame is not None:
        counts = (*counts, record.frame)
    if not all(isinstance(text, str) for text in (*texts, *record.masks)) or not all(
            type(count) is int and count >= 0 for count in counts) or not record.width or not record.height:
        raise ValueError('its values are of other types')
    rows = [[*box, score] for box, score in zip(record.boxes, record.scores, strict=True)]
    if len(rows) != len(record.labels) or len(record.masks) not in (0, len(rows)) or any(
            len(row) != 5 or not all(type(value) in (int, float) and math.isfinite(value) for value in row)
            for row in rows):
        raise ValueError('its boxes, scores and labels are not those of detections')
    _check_masks(record)
    if classes is not None and any(label >= classes for label in record.labels):
        raise ValueError('it has a label that the model does not have')


def _check_masks(record: Record) -> None:
    if record.masks:
        from sparse_rcnn_mm.datasets.masks import encode_segmentation  # imports PyTorch
        for counts in record.masks:
            encode_segmentation({'size': [record.height, record.width], 'counts': counts}, record.height, record.width)
