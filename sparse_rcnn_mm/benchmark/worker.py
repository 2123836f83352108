"""Runs one detector in its own process, to measure its memory and loading time separately.

    python -m sparse_rcnn_mm.benchmark.worker MODEL THREADS

reads pickled lists of images (h, w, 3) from stdin and writes pickled answers to stdout: first a description of the
model, then the seconds and the detections for each list. A process for an exported file does not import PyTorch.
"""
from __future__ import annotations

import os
import pickle
import sys
import time
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

START = time.perf_counter()

import numpy as np  # noqa: E402 (counted as part of loading)

from sparse_rcnn_mm.runtime.engines import PACKAGES  # noqa: E402

Run = Callable[[Sequence[np.ndarray]], list[tuple[np.ndarray, ...]]]


def open_exported(path: str, threads: int) -> tuple[Run, str, str]:
    """Open an exported file. Returns a function that runs it, the name of its engine, and its precision."""
    from sparse_rcnn_mm.runtime import Engine
    from sparse_rcnn_mm.runtime.detector import detect

    engine, package = Engine(path, threads), PACKAGES[Path(path).suffix]

    def run(images: Sequence[np.ndarray]) -> list[tuple[np.ndarray, ...]]:
        planes = [image.transpose(2, 0, 1) for image in images]
        return [tuple(found) for found in detect(engine, planes, [image.shape[:2] for image in images])]

    return run, f'{package} {metadata.version(package)}', engine.metadata.get('precision', 'unknown')


def open_checkpoint(path: str, threads: int) -> tuple[Run, str, str]:
    """Open the fast form of a checkpoint. Returns the same as `open_exported`."""
    import torch

    from sparse_rcnn_mm.export.proof import as_inputs
    from sparse_rcnn_mm.inference import Detector

    torch.set_num_threads(threads)
    detector = Detector.from_checkpoint(path, device='cpu')
    return (lambda images: [tuple(found) for found in detector.backend(as_inputs(images))],
            f'torch {torch.__version__.split("+")[0]}', 'fp32')


def peak_memory() -> float:
    """Return the peak memory of this process so far, in MiB."""
    status = Path('/proc/self/status')
    if status.is_file():  # `getrusage` would also count what the parent process had when it started this one
        peak = next(line for line in status.read_text().splitlines() if line.startswith('VmHWM:'))
        return int(peak.split()[1]) / 2**10
    import resource
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == 'darwin' else 2**10)


def main() -> None:
    """Answer requests until stdin ends."""
    answers: Any = os.fdopen(os.dup(1), 'wb')
    os.dup2(2, 1)  # other prints go to stderr, not into the answers
    path, threads = sys.argv[1], int(sys.argv[2])
    run, engine, precision = (open_exported if Path(path).suffix in PACKAGES else open_checkpoint)(path, threads)
    pickle.dump({'engine': engine, 'precision': precision, 'load': time.perf_counter() - START}, answers)
    answers.flush()
    while True:
        try:
            images = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        start = time.perf_counter()
        found = run(images)
        pickle.dump({'seconds': time.perf_counter() - start, 'found': found, 'memory': peak_memory()}, answers)
        answers.flush()


if __name__ == '__main__':
    main()
