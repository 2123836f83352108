"""Measure a detector: python tools/benchmark.py CONFIG [CHECKPOINT] prints time, work and memory by part."""
import sys

from sparse_rcnn_mm.cli.benchmark import main
from sparse_rcnn_mm.errors import one_sentence

if __name__ == '__main__':
    with one_sentence():
        sys.exit(main())
