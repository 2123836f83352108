"""Runs a detector on frames. Reading and drawing run in parallel threads."""
from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from sparse_rcnn_mm.datasets.read_image import read_image
from sparse_rcnn_mm.errors import UserError
from sparse_rcnn_mm.terminal import say
from sparse_rcnn_mm.visualization.draw import Mark, class_colors, draw_boxes, enlarged
from sparse_rcnn_mm.visualization.masks import draw_masks

from .contents import names_digest, size_of, stamp
from .detections import ImageDetections, ImageDetector
from .outputs import Outputs, Shard
from .progress import complain, progress_bar
from .sources import Frame, Source, frames_of

T = TypeVar('T')
R = TypeVar('R')

# The number of frames that wait before and after the detector. Larger numbers would only use more memory.
QUEUE = 4


@dataclass
class Report:
    """The numbers of a run.

    Attributes:
        images, detections: their numbers.
        skipped: the reason for each input that could not be read.
        wall, model: seconds in total, and in the detector.
        read, draw: seconds of work in the parallel threads.
    """
    images: int = 0
    detections: int = 0
    skipped: list[str] = field(default_factory=list)
    wall: float = 0.0
    model: float = 0.0
    read: float = 0.0
    draw: float = 0.0

    def __str__(self) -> str:
        lines = [f'{"":12}images/s   share of the time']
        parts = [('read', self.read, 'in parallel with the model'), ('model', self.model, ''),
                 ('draw, write', self.draw, 'in parallel with the model'), ('all', self.wall, '')]
        for name, seconds, note in parts:
            rate = self.images / seconds if seconds else 0.0
            lines.append(f'{name:12}{rate:8.1f}   {seconds / max(self.wall, 1e-9):5.0%} {note}'.rstrip())
        return '\n'.join(lines)


@dataclass(frozen=True)
class _Loaded:
    """A frame with its image and the network's input."""
    frame: Frame
    inputs: dict[str, Any] | None
    seconds: float


class Pipeline:
    """Runs a detector on sources and writes the detections.

    Args:
        detector: the detector.
        outputs: where to write.
        score_thr: detections with lower scores are dropped.
        classes: names of the classes to keep. Default: all.
        batch_size: how many images go through the network together.
    """

    def __init__(self, detector: ImageDetector, outputs: Outputs, score_thr: float = 0.3,
                 classes: Sequence[str] | None = None, batch_size: int = 1) -> None:
        self.detector = detector
        self.outputs = outputs
        self.score_thr = score_thr
        self.classes = classes
        self.batch_size = batch_size
        self.report = Report()
        self._colors = class_colors(len(detector.classes), detector.palette)

    def run(self, sources: Sequence[Source]) -> Report:
        """Process all frames. If the user interrupts, the run ends as if there were no more frames."""
        start = time.perf_counter()
        if self.outputs.done:
            say(f'{len(self.outputs.done)} of {len(sources)} inputs were done before')
            sources = [source for source in sources if source.name not in self.outputs.done]
        total = sum(source.length for source in sources)
        unknown = any(not source.length for source in sources)
        bar = progress_bar(None if unknown else total)
        readers = max(2, min(8, _processors() // 2))
        frames = ahead(frames_of(sources), QUEUE)
        loaded = in_order(self._load, frames, readers, QUEUE + self.batch_size)
        with bar, ThreadPoolExecutor(1) as writer:
            waiting: deque[Future] = deque()
            try:
                for batch in _batches(loaded, self.batch_size):
                    self._detect(batch, writer, waiting)
                    bar.update(len(batch))
                    while len(waiting) > QUEUE + self.batch_size:
                        waiting.popleft().result()
            except KeyboardInterrupt:
                complain('stopped by the user')
                self.outputs.interrupted = True
            for future in waiting:
                future.result()
        self.report.wall = time.perf_counter() - start
        return self.report

    def _load(self, frame: Frame) -> _Loaded:
        start = time.perf_counter()
        inputs = None
        try:
            if frame.error is None:
                image = read_image(frame.source.path) if frame.image is None else frame.image
                inputs = self.detector.prepare(image)
                frame = replace(frame, image=image, content=frame.content or self._stamp(frame))
        except UserError as error:
            frame = replace(frame, error=str(error))
        return _Loaded(frame, inputs, time.perf_counter() - start)

    @staticmethod
    def _stamp(frame: Frame) -> str:
        return stamp(frame.source.path) if frame.source.kind == 'image' else ''

    def _detect(self, batch: list[_Loaded], writer: ThreadPoolExecutor, waiting: deque[Future]) -> None:
        self.report.read += sum(one.seconds for one in batch)
        good = [one for one in batch if one.inputs is not None]
        for one in batch:
            if one.frame.error is not None:
                self.report.skipped.append(one.frame.error)
                complain(f'skipped: {one.frame.error}')
        if not good:
            return
        start = time.perf_counter()
        found = self.detector.detect([one.inputs for one in good if one.inputs is not None])
        self.report.model += time.perf_counter() - start
        for one, detections in zip(good, found, strict=True):
            waiting.append(writer.submit(self._write, one.frame, detections))

    def _write(self, frame: Frame, detections: ImageDetections) -> None:
        start = time.perf_counter()
        assert frame.image is not None
        kept = detections.keep(self.score_thr, self.classes)
        if self.outputs.pictures:
            self.outputs.pictures.add(frame, draw_detections(frame.image, kept, self._colors))
        self.outputs.add(frame, frame.image.shape[:2], kept)  # last, so that everything recorded has been written
        self.report.images += 1
        self.report.detections += len(kept)
        self.report.draw += time.perf_counter() - start


def draw_detections(image: np.ndarray, detections: ImageDetections, colors: Sequence[tuple[int, int, int]]) -> Any:
    """Draw detections on an image (H, W, 3) uint8. Small images are enlarged. Returns a Pillow image."""
    picture, factor = enlarged(image)
    if detections.masks is not None:
        draw_masks(picture, detections.masks, [colors[label] for label in detections.labels])
    return draw_boxes(picture, [Mark(box * factor, colors[label], f'{name} {score:.2f}') for box, label, name, score in
                                zip(detections.boxes, detections.labels, detections.names, detections.scores,
                                    strict=True)])


def process(detector: ImageDetector, sources: Sequence[Source], out_dir: Path, pictures: bool = True,
            formats: Sequence[str] = ('coco', 'csv'), resume: bool = False, shard: Shard = (1, 1),
            made_by: Mapping[str, Any] | None = None, **settings: Any) -> Report:
    """Run a detector on sources and write the results to a folder.

    `formats`, `resume` and `shard` are explained at `Outputs`, the other settings at `Pipeline`. A shard processes
    every n-th source. `made_by` identifies the model and its settings, so that a run is not resumed with others.
    """
    about = {**(made_by or {}), 'classes': list(detector.classes), 'only': settings.get('classes'),
             'score_thr': settings.get('score_thr', 0.3),
             'inputs': names_digest(f'{source.name} {size_of(source.path)}' for source in sources)}
    part = sources[shard[0] - 1::shard[1]]
    with Outputs(out_dir, detector, part, about, pictures, formats, resume, shard) as outputs:
        return Pipeline(detector, outputs, **settings).run(part)


def _processors() -> int:
    """Number of processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1


def ahead(items: Iterator[T], depth: int) -> Iterator[T]:
    """Yield the same items, produced in a thread, at most `depth` items ahead."""
    end: Any = object()
    with ThreadPoolExecutor(1) as pool:
        waiting = deque(pool.submit(next, items, end) for _ in range(depth))
        while (item := waiting.popleft().result()) is not end:
            waiting.append(pool.submit(next, items, end))
            yield item


def in_order(function: Callable[[T], R], items: Iterator[T], workers: int, depth: int) -> Iterator[R]:
    """`map` in threads, with the results in order and at most `depth` items ahead."""
    with ThreadPoolExecutor(workers) as pool:
        waiting: deque[Future[R]] = deque()
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > depth:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _batches(items: Iterator[T], size: int) -> Iterator[list[T]]:
    batch: list[T] = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
