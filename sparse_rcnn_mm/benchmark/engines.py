"""Compares exported files with their checkpoint: time, memory, and differences of the detections."""
from __future__ import annotations

import os
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

import sparse_rcnn_mm
from sparse_rcnn_mm.errors import UserError
from sparse_rcnn_mm.export.proof import Differences, Limits, compare, smooth_image
from sparse_rcnn_mm.inference.backend import Found
from sparse_rcnn_mm.runtime import Engine
from sparse_rcnn_mm.runtime.preprocessing import resized_shape

from .timing import Spread


class Worker:
    """A process with one detector, see `worker.py`. Use it as a context manager.

    Attributes:
        loaded: `engine`, `precision` and `load`, the seconds from the start of the process until the model is loaded.
    """

    def __init__(self, model: str | os.PathLike, threads: int) -> None:
        paths = [str(Path(sparse_rcnn_mm.__file__).parents[1]), os.environ.get('PYTHONPATH', '')]
        environment = {**os.environ, 'OMP_NUM_THREADS': str(threads),
                       'PYTHONPATH': os.pathsep.join(filter(None, paths))}
        self.model = model
        self._errors = tempfile.TemporaryFile()
        self._process = subprocess.Popen(
            [sys.executable, '-W', 'ignore', '-m', 'sparse_rcnn_mm.benchmark.worker', os.fspath(model), str(threads)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, env=environment)
        self.loaded = self._answer()

    def __call__(self, images: Sequence[np.ndarray]) -> dict[str, Any]:
        """Run on images (h, w, 3) of the network's input size. Returns `seconds`, `found` and peak `memory` in MiB."""
        assert self._process.stdin is not None
        pickle.dump(images, self._process.stdin)
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        try:
            return pickle.load(self._process.stdout)
        except EOFError:
            self._process.wait()
            self._errors.seek(0)
            lines = self._errors.read().decode(errors='replace').strip().splitlines() or ['no message']
            raise UserError(f'the process with {self.model} ended: {lines[-1][:300]}') from None

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 traceback: TracebackType | None) -> None:
        self._process.kill()
        self._process.communicate()
        self._errors.close()


@dataclass(frozen=True)
class Row:
    """The measurements of one model.

    Attributes:
        ratio: time of the first model divided by the time of this model, in the same turn.
        size, memory: of the file and of the process, in MiB.
        differences: between the detections of this model and of the first.
    """
    name: str
    engine: str
    precision: str
    threads: int
    seconds: Spread
    ratio: Spread
    size: float
    memory: float
    load: float
    differences: Differences


def compare_engines(models: Sequence[str], size: tuple[int, int] | None, batch: int, repeats: int,
                    threads: int) -> list[Row]:
    """Measure a checkpoint and exported files. They take turns.

    Args:
        models: the checkpoint, and the files.
        size: height and width of the images. Default: those of a resized photo with height : width = 3 : 4.
        batch: the number of images per run.
    """
    shape = size or resized_shape(3, 4, **Engine(models[1]).metadata['resize'])
    images = [smooth_image(seed, *shape) for seed in range(batch)]
    with ExitStack() as stack:
        workers = [stack.enter_context(Worker(model, threads)) for model in models]
        first = [worker(images) for worker in workers]
        answers = [[worker(images) for worker in workers] for _ in range(repeats)]
        rows = []
        for index, worker in enumerate(workers):
            seconds = [turn[index]['seconds'] for turn in answers]
            rows.append(Row(
                Path(worker.model).name, worker.loaded['engine'], worker.loaded['precision'], threads,
                Spread.of(seconds), Spread.of([turn[0]['seconds'] / turn[index]['seconds'] for turn in answers]),
                size_of(worker.model) / 2**20, answers[-1][index]['memory'], worker.loaded['load'],
                _apart(first[index]['found'], first[0]['found'])))
    return rows


def size_of(model: str | os.PathLike) -> int:
    """Size of a model in bytes, including the files that belong to it."""
    path = Path(model)
    others = [path.with_suffix('.bin')] if path.suffix == '.xml' else [path.with_name(path.name + '.data')]
    return path.stat().st_size + sum(other.stat().st_size for other in others if other.is_file())


def _apart(found: Sequence[tuple], wanted: Sequence[tuple]) -> Differences:
    total = Differences()
    for one, other in zip(found, wanted, strict=True):
        total.add(compare(Found(*one), Found(*other), Limits()))
    return total


def engines_table(rows: Sequence[Row], size: tuple[int, int] | None, batch: int) -> str:
    """Format the rows as a Markdown table."""
    what = f'{size[0]}x{size[1]}' if size else 'of the shape 3:4'
    lines = [f'{batch} image(s) {what} at a time; median (quartiles); the models take turns, each in its own process',
             '',
             '| model | engine | precision | threads | seconds | times as fast | file, MiB | memory, MiB | load, s '
             '| boxes, px | scores | swapped |', '|---' * 12 + '|']
    for row in rows:
        apart = row.differences
        lines.append(f'| {row.name} | {row.engine} | {row.precision} | {row.threads} | {row.seconds.text()} | '
                     f'{row.ratio.text(2)} | {row.size:.1f} | {row.memory:.0f} | {row.load:.1f} | '
                     f'{_number(apart.boxes)} | {_number(apart.scores)} | {apart.swapped} of {apart.compared} |')
    return '\n'.join(lines)


def _number(difference: float) -> str:
    return f'{difference:.1e}' if np.isfinite(difference) else 'other objects'
