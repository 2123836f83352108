"""Test a detector: python tools/test.py [CONFIG] CHECKPOINT [--data FOLDER] prints the COCO metric."""
import sys

from sparse_rcnn_mm.cli.test import main
from sparse_rcnn_mm.errors import one_sentence

if __name__ == '__main__':
    with one_sentence():
        sys.exit(main())
