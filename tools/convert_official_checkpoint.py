#!/usr/bin/env python
"""Convert a checkpoint of the official Sparse R-CNN (detectron2) to this package's, or back."""
import sys

from sparse_rcnn_mm.cli.convert import main
from sparse_rcnn_mm.errors import one_sentence

if __name__ == '__main__':
    with one_sentence():
        sys.exit(main())
