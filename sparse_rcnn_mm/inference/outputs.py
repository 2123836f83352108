"""Where detections go: a COCO file, a table, pictures and videos. All are written as they come."""
from __future__ import annotations

import csv
import json
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import cv2
import numpy as np
from PIL import Image

from sparse_rcnn_mm.errors import UserError
from sparse_rcnn_mm.own_outputs import INFO, mark

from .detector import Detector, ImageDetections
from .sources import Frame


class CocoWriter:
    """One COCO file: images, categories, and the detections as annotations with a `score`.

    `image_id` counts the images from 1, `category_id` is that of the data the model was trained on, and `categories`
    names them. A frame of a video has its number as `frame`.
    """

    def __init__(self, path: Path, classes: Sequence[str], category_ids: Sequence[int]) -> None:
        categories = [{'id': i, 'name': name} for i, name in zip(category_ids, classes, strict=True)]
        self._category_ids = category_ids
        self._file = path.open('w', encoding='utf-8')
        self._file.write(f'{{"info": {json.dumps(INFO)},\n"categories": {json.dumps(categories, ensure_ascii=False)},\n'
                         '"annotations": [')
        self._images = tempfile.TemporaryFile('w+', encoding='utf-8')  # a file holds one list at a time
        self._image_id = 0
        self._annotation_id = 0

    def add(self, frame: Frame, size: tuple[int, int], detections: ImageDetections) -> None:
        """Write one image of `size` (height, width)."""
        self._image_id += 1
        image: dict[str, Any] = {'id': self._image_id, 'file_name': frame.source.path, 'height': size[0],
                                 'width': size[1]}
        if frame.index is not None:
            image['frame'] = frame.index
        self._images.write((',\n' if self._image_id > 1 else '\n') + json.dumps(image, ensure_ascii=False))
        for (x1, y1, x2, y2), score, label in zip(detections.boxes.tolist(), detections.scores.tolist(),
                                                  detections.labels.tolist(), strict=True):
            self._annotation_id += 1
            box = [round(value, 2) for value in (x1, y1, x2 - x1, y2 - y1)]
            annotation = {'id': self._annotation_id, 'image_id': self._image_id,
                          'category_id': self._category_ids[label], 'bbox': box, 'area': round(box[2] * box[3], 2),
                          'iscrowd': 0, 'score': round(score, 5)}
            self._file.write((',\n' if self._annotation_id > 1 else '\n') + json.dumps(annotation))

    def close(self) -> None:
        self._file.write('\n],\n"images": [')
        self._images.seek(0)
        shutil.copyfileobj(self._images, self._file)
        self._file.write('\n]}\n')
        self._file.close()
        self._images.close()


class TableWriter:
    """A CSV file with one row a detection."""

    def __init__(self, path: Path) -> None:
        self._file = path.open('w', newline='', encoding='utf-8')
        self._rows = csv.writer(self._file)
        self._rows.writerow(['image', 'frame', 'class', 'score', 'x1', 'y1', 'x2', 'y2'])

    def add(self, frame: Frame, detections: ImageDetections) -> None:
        index = '' if frame.index is None else frame.index
        for box, score, name in zip(detections.boxes.tolist(), detections.scores.tolist(), detections.names,
                                    strict=True):
            self._rows.writerow([frame.source.path, index, name, f'{score:.4f}', *(f'{value:.1f}' for value in box)])

    def close(self) -> None:
        self._file.close()


class PictureWriter:
    """Pictures and videos in a folder, under the names of their sources."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._video: cv2.VideoWriter | None = None
        self._video_name: str | None = None

    def add(self, frame: Frame, picture: Image.Image) -> None:
        path = self._folder / frame.source.name
        path.parent.mkdir(parents=True, exist_ok=True)
        if frame.index is not None:
            self._add_to_video(frame, path, picture)
        elif path.suffix.lower() == '.png':
            picture.save(path, compress_level=1)  # the default takes as long as a small network
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
        if self._video is not None:
            self._video.release()
            self._video = None


class Outputs:
    """Everything that one run writes; use it as a context, so that files are complete after an interrupt as well."""

    def __init__(self, folder: Path, detector: Detector, pictures: bool) -> None:
        try:
            mark(folder)
            self.coco = CocoWriter(folder / 'detections.json', detector.classes, detector.category_ids)
            self.table = TableWriter(folder / 'detections.csv')
        except OSError as error:
            raise UserError(f'cannot write to {folder}: {error.strerror or error}') from error
        self.pictures = PictureWriter(folder) if pictures else None

    def __enter__(self) -> Outputs:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 traceback: TracebackType | None) -> None:
        self.coco.close()
        self.table.close()
        if self.pictures:
            self.pictures.close()
